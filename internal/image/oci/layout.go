package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/bound"
)

// findInLayout finds an image with the index of an OCI layout.
func findInLayout(p place, index []byte, ref Reference, arch, digest string) (*foundImage, error) {
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	var found []*foundImage
	var all []string
	s := &search{place: p, arch: arch, digest: digest}
	tagged := false
	for _, d := range manifest.Manifests {
		names := namesOf(d)
		all = append(all, names...)
		if digest == "" && ref.Tag != "" && !isNamed(names, ref.Tag) {
			continue
		}
		tagged = true
		img, err := s.find(d, 0, digest)
		if err != nil {
			return nil, err
		}
		if img != nil {
			img.names = names
			found = append(found, img)
		}
	}
	switch {
	case !tagged && ref.Tag != "":
		return nil, noSuchName(ref.Tag, all)
	case len(found) == 0:
		return nil, s.missing()
	}
	return choose(ref, found)
}

// namesOf returns an image's names in an index, from the annotations of the image specification
// (annotations.md) and of containerd.
func namesOf(d v1.Descriptor) (names []string) {
	for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
		if n := d.Annotations[key]; n != "" {
			names = append(names, n)
		}
	}
	return names
}

// A layoutDir is the directory of an OCI layout.
type layoutDir string

func openLayout(ref Reference, arch, digest string) (*foundImage, error) {
	index, err := readDocument(filepath.Join(ref.Path, "index.json"))
	if errors.Is(err, errAbsent) {
		return nil, fmt.Errorf("read OCI layout: %s has no index.json: write oci:DIR with the folder of a layout, or the path of a tarball", ref.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("read OCI layout: %w", err)
	}
	return findInLayout(layoutDir(ref.Path), index, ref, arch, digest)
}

func (dir layoutDir) file(d v1.Descriptor) string {
	return filepath.Join(string(dir), "blobs", d.Digest.Algorithm, d.Digest.Hex)
}

func (dir layoutDir) document(d v1.Descriptor) ([]byte, error) { return readDocument(dir.file(d)) }

func (dir layoutDir) layer(d v1.Descriptor) (io.ReadCloser, error) { return os.Open(dir.file(d)) }

// readDocument reads a file of a layout.
func readDocument(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, errAbsent)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return bound.ReadFile(name, maxDocument)
}
