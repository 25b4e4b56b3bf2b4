// Package oci finds container images and hands out their layers: in a
// registry by tag or digest, in an OCI layout directory, or in a tarball. It
// picks the image of one platform, verifies every layer against its digest and
// its diff ID, and uses credentials and mirrors as Docker is configured to.
//
// A digest fixes an image for good. For registries and layouts it is that of
// the platform's manifest; the tarballs that docker save writes have no
// manifest of that kind, so for them it is that of the image's configuration,
// which names every layer by its diff ID.
package oci

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// A Kind says where an image is kept.
type Kind int

// Kinds of references.
const (
	Registry Kind = iota // host/repository:tag or @digest
	Layout               // oci:DIR, an OCI image layout directory
	Tarball              // a path: what docker save wrote, or an OCI layout in a tar

	dockerArchive // a tarball that turned out to be docker save's
)

// A Reference names an image as a person writes it.
type Reference struct {
	Kind Kind
	Path string         // of a layout or tarball
	Name name.Reference // in a registry
	text string
}

// Parse reads a reference: "oci:DIR" is a layout; what begins with "/", "./" or
// "../" or ends in .tar, .tar.gz or .tgz is a tarball; anything else is in a
// registry, Docker Hub if it names none.
func Parse(text string) (Reference, error) {
	if dir, ok := strings.CutPrefix(text, "oci:"); ok {
		if dir == "" {
			return Reference{}, fmt.Errorf("image reference %q names no directory", text)
		}
		return Reference{Kind: Layout, Path: filepath.Clean(dir), text: text}, nil
	}
	if isTarballPath(text) {
		return Reference{Kind: Tarball, Path: filepath.Clean(text), text: text}, nil
	}
	n, err := name.ParseReference(text)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w; write HOST/REPOSITORY:TAG, oci:DIR or the path of a .tar", text, err)
	}
	return Reference{Kind: Registry, Name: n, text: text}, nil
}

func isTarballPath(text string) bool {
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(text, suffix) {
			return true
		}
	}
	return false
}

// String returns the reference as it was written.
func (r Reference) String() string { return r.text }
