package oci

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// allocated returns the number of bytes that were allocated on the heap so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzTarball opens images from files. An opened image must have the digest that it states, and
// allocations must be in proportion to the file's size.
func FuzzTarball(f *testing.F) {
	for _, content := range seedTarballs(f) {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		before := allocated()
		img, err := Open(context.Background(), Reference{Kind: Tarball, Path: path}, "arm64", "", Options{})
		limit := uint64(64<<20) + 256*uint64(len(content))
		if bytes.HasPrefix(content, xzMagic) { // the file is read up to three times
			limit += 3 * (maxWindow + xzWindows*uint64(len(content)))
		}
		if cost := allocated() - before; cost > limit {
			t.Errorf("%d bytes are allocated for %d", cost, len(content))
		}
		if err != nil {
			return
		}
		if _, err := Assemble(img.Digest, img.Arch, img.Manifest, img.Config, func(string) (io.ReadCloser, int64, error) {
			return io.NopCloser(strings.NewReader("")), 0, nil
		}); err != nil {
			t.Errorf("what was opened as %s is something else: %v", img.Digest, err)
		}
	})
}

// seedTarballs returns each kind of archive, plain and compressed.
func seedTarballs(f *testing.F) (all [][]byte) {
	dir := f.TempDir()
	ref, err := name.NewTag("base:1")
	if err != nil {
		f.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(saved, ref, image(f, "arm64")); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(saved)
	if err != nil {
		f.Fatal(err)
	}
	all = append(all, content)
	folder := filepath.Join(dir, "layout")
	if _, err := layout.Write(folder, index(f)); err != nil {
		f.Fatal(err)
	}
	packed := filepath.Join(dir, "layout.tar")
	writeTarOf(f, packed, folder)
	if content, err = os.ReadFile(packed); err != nil {
		f.Fatal(err)
	}
	all = append(all, content)
	root, err := os.ReadFile(writeRoot(f, map[string]string{"bin/sh": program(183)}))
	if err != nil {
		f.Fatal(err)
	}
	all = append(all, xz(f, all[0]), wideXZ(xz(f, all[1])), root)
	for _, plain := range all[:2] {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(plain); err != nil {
			f.Fatal(err)
		}
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		all = append(all, b.Bytes())
	}
	return all
}
