package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sovereign-sql/sov/internal/bound"
)

// openLayout finds the image for an architecture in an OCI layout: the one with
// the digest, or the only one of the platform.
func openLayout(dir, arch, digest string) (foundImage, error) {
	err := checkDocument(filepath.Join(dir, "index.json"))
	if err != nil {
		return foundImage{}, fmt.Errorf("read OCI layout: %w", err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return foundImage{}, fmt.Errorf("read OCI layout: %w", err)
	}
	var found []v1.Image
	if err := collect(index, dir, arch, digest, 0, &found); err != nil {
		return foundImage{}, err
	}
	switch len(found) {
	case 0:
		return foundImage{}, errors.New("the layout has no such image")
	case 1:
		return withDigest(found[0], Layout)
	}
	return foundImage{}, fmt.Errorf("the layout has %d such images; keep one in it", len(found))
}

// maxIndexDepth bounds indexes within indexes; one level is usual.
const maxIndexDepth = 4

func collect(index v1.ImageIndex, dir, arch, digest string, depth int, found *[]v1.Image) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("read image index: %w", err)
	}
	if depth > maxIndexDepth {
		return fmt.Errorf("image indexes are nested deeper than %d levels", maxIndexDepth)
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() || d.MediaType.IsImage() || d.MediaType == types.MediaType("") {
			if err := checkDocument(blobFile(dir, d.Digest)); err != nil {
				return fmt.Errorf("read manifest: %w", err)
			}
		}
		switch {
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return fmt.Errorf("read image index %s: %w", d.Digest, err)
			}
			if err := collect(inner, dir, arch, digest, depth+1, found); err != nil {
				return err
			}
		case d.MediaType.IsImage() || d.MediaType == types.MediaType(""):
			img, err := index.Image(d.Digest)
			if err != nil {
				return fmt.Errorf("read image %s: %w", d.Digest, err)
			}
			m, err := img.Manifest()
			if err == nil {
				err = checkDocument(blobFile(dir, m.Config.Digest))
			}
			if err != nil {
				return fmt.Errorf("read image %s: %w", d.Digest, err)
			}
			ok, err := wanted(img, d, arch, digest)
			if err != nil {
				return fmt.Errorf("read image %s: %w", d.Digest, err)
			}
			if ok {
				*found = append(*found, img)
			}
		}
	}
	return nil
}

func blobFile(dir string, digest v1.Hash) string {
	return filepath.Join(dir, "blobs", digest.Algorithm, digest.Hex)
}

// checkDocument refuses a file of a layout that is larger than the documents that are read whole, or not a file. One that
// does not exist is for its reader to name.
func checkDocument(name string) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDocument {
		return fmt.Errorf("%s is not a file of at most %d bytes: %w", name, maxDocument, bound.ErrTooLarge)
	}
	return nil
}

func wanted(img v1.Image, d v1.Descriptor, arch, digest string) (bool, error) {
	if digest != "" {
		return d.Digest.String() == digest, nil
	}
	if d.Platform != nil {
		return matches(d.Platform, arch), nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return false, err
	}
	return config.OS == "linux" && config.Architecture == arch, nil
}

// openTarball reads what docker save wrote, or an OCI layout in a tar,
// compressed or not.
func openTarball(path, arch, digest string) (foundImage, error) {
	isLayout, err := holdsLayout(path)
	if err != nil {
		return foundImage{}, fmt.Errorf("read tarball: %w", err)
	}
	if isLayout {
		return openLayoutTarball(path, arch, digest)
	}
	if err := checkArchive(path); err != nil {
		return foundImage{}, fmt.Errorf("read tarball: %w", err)
	}
	img, err := tarball.Image(opener(path), nil)
	if err != nil {
		return foundImage{}, fmt.Errorf("read tarball: %w", err)
	}
	// The layers' digests in the manifest that the library makes up depend on
	// its compressor; the configuration's does not.
	id, err := img.ConfigName()
	return foundImage{img, dockerArchive, id.String()}, err
}

// checkArchive refuses what docker save wrote if the documents in it, which are read whole, are larger than such documents
// are.
func checkArchive(path string) error {
	large := map[string]int64{}
	err := eachFile(path, func(name string, size int64, _ io.Reader) error {
		if size > maxDocument && len(large) <= maxLarge {
			large[name] = size
		}
		return nil
	})
	if err != nil || len(large) == 0 {
		return err
	}
	if large["manifest.json"] == 0 {
		manifest, err := tarball.LoadManifest(opener(path))
		if err != nil {
			return err
		}
		for _, d := range manifest {
			if large[filepath.ToSlash(filepath.Clean(d.Config))] > 0 {
				return fmt.Errorf("%.80q has more than the %d bytes of a document: %w", d.Config, maxDocument, bound.ErrTooLarge)
			}
		}
		if len(large) <= maxLarge {
			return nil
		}
	}
	return fmt.Errorf("its manifest.json has more than %d bytes, or it has more than %d layers: %w", maxDocument, maxLarge, bound.ErrTooLarge)
}

// maxLarge bounds the files of a tarball that are larger than a document.
const maxLarge = 1000

// opener opens a tar that may be compressed with gzip.
func opener(path string) tarball.Opener {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		var magic [2]byte
		if _, err := f.ReadAt(magic[:], 0); err != nil || magic != [2]byte{0x1f, 0x8b} {
			return f, nil
		}
		source := bound.NewSource(f)
		z, err := gzip.NewReader(source)
		if err != nil {
			f.Close()
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{layerLimit.Expanded(z, source), f}, nil
	}
}

// holdsLayout reports whether a tarball is an OCI layout rather than what
// docker save wrote. Docker's newer archives are both, and are read as Docker
// reads them.
func holdsLayout(path string) (bool, error) {
	layoutFile := false
	err := eachFile(path, func(name string, _ int64, _ io.Reader) error {
		switch name {
		case "manifest.json":
			layoutFile = false
			return fs.SkipAll
		case "oci-layout":
			layoutFile = true
		}
		return nil
	})
	return layoutFile, err
}

func eachFile(path string, fn func(name string, size int64, r io.Reader) error) error {
	f, err := opener(path)()
	if err != nil {
		return err
	}
	defer f.Close()
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := fn(filepath.ToSlash(filepath.Clean(h.Name)), h.Size, t); err != nil {
			if errors.Is(err, fs.SkipAll) {
				return nil
			}
			return err
		}
	}
}

// maxDocument bounds manifests, indexes and configurations read from a tarball.
const maxDocument = 8 << 20

// openLayoutTarball finds the image in an OCI layout that stands in a tar. Its
// small documents are kept in memory, its layers are read from the tar when
// they are asked for.
func openLayoutTarball(path, arch, digest string) (foundImage, error) {
	l := &tarLayout{path: path, blobs: map[string][]byte{}}
	var index []byte
	err := eachFile(path, func(name string, size int64, r io.Reader) error {
		hash, isBlob := strings.CutPrefix(name, "blobs/sha256/")
		if name != "index.json" && (!isBlob || size > maxDocument) {
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
		if err != nil {
			return err
		}
		if name == "index.json" {
			index = b
		} else if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
			l.blobs["sha256:"+hash] = b
		}
		return nil
	})
	if err != nil {
		return foundImage{}, fmt.Errorf("read tarball: %w", err)
	}
	if index == nil {
		return foundImage{}, errors.New("read tarball: it has no index.json")
	}
	return l.find(index, arch, digest)
}
