// Package oci finds container images and reads their layers, from a registry by tag or digest, an
// OCI layout directory, or a tarball. It selects the image of one platform, verifies every layer
// against its digest and its diff ID, and uses Docker's configuration of credentials and mirrors.
//
// A digest identifies an image permanently. For registries and layouts it is that of the platform's
// manifest. The tarballs of docker save do not have such a manifest; for them it is the digest of
// the image's configuration, which names every layer by its diff ID. A plain tar of a root file
// system does not have a configuration either; the package generates one with its platform and its
// only layer.
package oci

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// A Kind is the kind of an image's source.
type Kind int

// Kinds of references.
const (
	Registry Kind = iota // host/repository:tag or @digest
	Layout               // oci:DIR, an OCI image layout directory
	Tarball              // a path: the output of docker save, an OCI layout in a tar, or a root file system
)

// A Reference is an image's name as the user writes it.
type Reference struct {
	Kind   Kind
	Path   string         // of a layout or tarball
	Tag    string         // selects an image of a layout or tarball with several
	Digest string         // the same, "sha256:…"
	Name   name.Reference // in a registry
	place  string         // the text without tag and digest
	text   string
}

// schemes are the prefixes of other programs (containers-transports(5)).
var schemes = []struct {
	prefix string
	kind   Kind
}{
	{"oci:", Layout}, {"docker-archive:", Tarball}, {"oci-archive:", Tarball},
}

// archives are the suffixes of tarballs' names.
var archives = []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz"}

var digestSuffix = regexp.MustCompile(`@(sha256:[0-9a-f]{64})$`)

// Parse reads a reference:
//
//	oci:DIR                             an OCI layout
//	PATH                                a tarball, if it begins with "/", "./" or "../" or has one of the ends of a tarball's name
//	oci-archive:PATH docker-archive:PATH  the same, whatever the path is called
//	HOST/REPOSITORY:TAG                 in a registry, Docker Hub without a host; also with docker:// before it
//
// After a layout or a tarball, :TAG or @sha256:… selects one of its images.
func Parse(text string) (Reference, error) {
	r := Reference{text: text}
	place := text
	if m := digestSuffix.FindStringSubmatch(text); m != nil {
		place, r.Digest = strings.TrimSuffix(text, m[0]), m[1]
	}
	for _, s := range schemes {
		rest, ok := strings.CutPrefix(place, s.prefix)
		if !ok {
			continue
		}
		// The first colon ends the path, as in skopeo.
		path, tag, _ := strings.Cut(rest, ":")
		if path == "" {
			return Reference{}, fmt.Errorf("image reference %q has no path: write %sPATH or %sPATH:TAG", text, s.prefix, s.prefix)
		}
		r.Kind, r.Path, r.Tag, r.place = s.kind, filepath.Clean(path), tag, s.prefix+path
		return r, nil
	}
	if path, tag, ok := cutTarball(place); ok {
		r.Kind, r.Path, r.Tag, r.place = Tarball, filepath.Clean(path), tag, path
		return r, nil
	}
	n, err := name.ParseReference(strings.TrimPrefix(text, "docker://"))
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w; write HOST/REPOSITORY:TAG, oci:DIR or the path of a .tar", text, err)
	}
	return Reference{Kind: Registry, Name: n, text: text, place: text}, nil
}

// cutTarball splits a text into the path of a tarball and a tag, and reports whether it is such a
// path.
func cutTarball(text string) (path, tag string, ok bool) {
	for _, suffix := range archives {
		if before, after, found := strings.Cut(text, suffix+":"); found {
			return before + suffix, after, true
		}
		ok = ok || strings.HasSuffix(text, suffix)
	}
	for _, prefix := range []string{"/", "./", "../"} {
		ok = ok || strings.HasPrefix(text, prefix)
	}
	return text, "", ok
}

// String returns the reference as it was written.
func (r Reference) String() string { return r.text }

// ShortName returns the reference without the folder of a layout or tarball.
func (r Reference) ShortName() string {
	switch r.Kind {
	case Registry:
		return r.text
	case Layout:
		return "oci:" + r.inPlace(filepath.Base(r.Path))
	}
	return r.inPlace(filepath.Base(r.Path))
}

func (r Reference) inPlace(path string) string {
	if r.Tag != "" {
		path += ":" + r.Tag
	}
	if r.Digest != "" {
		path += "@" + r.Digest
	}
	return path
}
