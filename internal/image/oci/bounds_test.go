package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/bound"
)

// TestLayerExpansion decompresses layers of 512 MiB of zeros into a writer without a limit.
func TestLayerExpansion(t *testing.T) {
	const size = 512 << 20
	zeros := func(w io.WriteCloser) {
		block := make([]byte, 1<<20)
		for n := 0; n < size; n += len(block) {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, compressor := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestCompression) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		var packed bytes.Buffer
		w, err := compressor(&packed)
		if err != nil {
			t.Fatal(err)
		}
		zeros(w)
		var out counter
		err = Layer{Digest: "sha256:x", DiffID: "sha256:y"}.Decompress(&out, bytes.NewReader(packed.Bytes()))
		t.Logf("%s: a layer of %d bytes writes %d MiB: %v", name, packed.Len(), out>>20, err)
		if !errors.Is(err, bound.ErrTooLarge) || out > 100<<20 {
			t.Errorf("%s: %d MiB, %v", name, out>>20, err)
		}
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// TestEndlessConfiguration fetches from a registry whose manifest declares a configuration of 1
// TiB, and which sends it.
func TestEndlessConfiguration(t *testing.T) {
	manifest, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: 1 << 40, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}})
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Write(manifest)
		case strings.Contains(r.URL.Path, "/blobs/"):
			block := make([]byte, 1<<20)
			for r.Context().Err() == nil && sent.Load() < 1<<30 {
				n, err := w.Write(block)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	}))
	defer server.Close()
	ref, err := Parse(strings.TrimPrefix(server.URL, "http://") + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), ref, "arm64", "", Options{Pause: time.Millisecond})
	t.Logf("%d MiB sent: %v", sent.Load()>>20, err)
	if !errors.Is(err, bound.ErrTooLarge) || sent.Load() > maxDocument {
		t.Errorf("%d MiB sent, %v", sent.Load()>>20, err)
	}
}

// TestEndlessDocuments opens a layout and a tarball whose documents have 200 MiB.
func TestEndlessDocuments(t *testing.T) {
	dir := t.TempDir()
	digest := strings.Repeat("0", 64)
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":1,"digest":"sha256:%s"}]}`, types.OCIManifestSchema1, digest)
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	huge, err := os.Create(filepath.Join(dir, "blobs", "sha256", digest))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if err := huge.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	ref, err := Parse("oci:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), ref, "arm64", "", Options{}); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("layout: %v", err)
	}
	archive := filepath.Join(t.TempDir(), "saved.tar")
	saved := t.TempDir()
	if err := os.WriteFile(filepath.Join(saved, "manifest.json"), []byte(`[{"Config":"huge.json","Layers":[]}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(huge.Name(), filepath.Join(saved, "huge.json")); err != nil {
		t.Fatal(err)
	}
	writeTarOf(t, archive, saved)
	if ref, err = Parse(archive); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), ref, "arm64", "", Options{}); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("docker save: %v", err)
	}
}
