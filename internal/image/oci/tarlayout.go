package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A tarLayout is an OCI layout in a tar.
type tarLayout struct {
	path  string
	blobs map[string][]byte // JSON documents by digest
}

// document returns a JSON blob after comparing it with its digest.
func (l *tarLayout) document(h v1.Hash) ([]byte, error) {
	b, ok := l.blobs[h.String()]
	if !ok {
		return nil, fmt.Errorf("the tarball has no document %s", h)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != h.Hex {
		return nil, fmt.Errorf("the document %s in the tarball does not match its digest", h)
	}
	return b, nil
}

// find walks the index for the image wanted.
func (l *tarLayout) find(index []byte, arch, digest string) (foundImage, error) {
	var found []*tarImage
	if err := l.collect(index, arch, digest, 0, &found); err != nil {
		return foundImage{}, err
	}
	if len(found) != 1 {
		return foundImage{}, fmt.Errorf("the tarball has %d such images, one is expected", len(found))
	}
	img, err := partial.CompressedToImage(found[0])
	return foundImage{img, Tarball, found[0].descriptor.Digest.String()}, err
}

func (l *tarLayout) collect(index []byte, arch, digest string, depth int, found *[]*tarImage) error {
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return fmt.Errorf("read image index: %w", err)
	}
	if depth > maxIndexDepth {
		return fmt.Errorf("image indexes are nested deeper than %d levels", maxIndexDepth)
	}
	for _, d := range manifest.Manifests {
		if !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
			continue
		}
		raw, err := l.document(d.Digest)
		if err != nil {
			return err
		}
		if d.MediaType.IsIndex() {
			if err := l.collect(raw, arch, digest, depth+1, found); err != nil {
				return err
			}
			continue
		}
		t := &tarImage{layout: l, descriptor: d, manifest: raw}
		img, err := partial.CompressedToImage(t)
		if err != nil {
			return fmt.Errorf("read image %s: %w", d.Digest, err)
		}
		ok, err := wanted(img, d, arch, digest)
		if err != nil {
			return fmt.Errorf("read image %s: %w", d.Digest, err)
		}
		if ok {
			*found = append(*found, t)
		}
	}
	return nil
}

// A tarImage is an image in a tarLayout; it implements
// partial.CompressedImageCore.
type tarImage struct {
	layout     *tarLayout
	descriptor v1.Descriptor
	manifest   []byte
}

func (t *tarImage) MediaType() (types.MediaType, error) { return t.descriptor.MediaType, nil }
func (t *tarImage) RawManifest() ([]byte, error)        { return t.manifest, nil }

func (t *tarImage) RawConfigFile() ([]byte, error) {
	m, err := v1.ParseManifest(bytes.NewReader(t.manifest))
	if err != nil {
		return nil, err
	}
	return t.layout.document(m.Config.Digest)
}

func (t *tarImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	m, err := v1.ParseManifest(bytes.NewReader(t.manifest))
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if d.Digest == h {
			return &tarLayer{t.layout.path, d}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// A tarLayer implements partial.CompressedLayer.
type tarLayer struct {
	path       string
	descriptor v1.Descriptor
}

func (l *tarLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l *tarLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l *tarLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// Compressed streams the layer out of the tar.
func (l *tarLayer) Compressed() (io.ReadCloser, error) {
	pr, pw := io.Pipe()
	go func() {
		missing := true
		err := eachFile(l.path, func(name string, _ int64, r io.Reader) error {
			if name != "blobs/sha256/"+l.descriptor.Digest.Hex {
				return nil
			}
			missing = false
			if _, err := io.Copy(pw, r); err != nil {
				return err
			}
			return fs.SkipAll
		})
		if err == nil && missing {
			err = errors.New("the tarball does not have it")
		}
		pw.CloseWithError(err)
	}()
	return pr, nil
}
