package kernel

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/fetch"
)

// TestSourceExpansion resolves an archive with a file of zeros before the Makefile.
func TestSourceExpansion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "linux.tar.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	const size = 512 << 20
	w := tar.NewWriter(z)
	write := func(b []byte) {
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "linux/zeros", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	for block, n := make([]byte, 1<<20), 0; n < size; n += len(block) {
		write(block)
	}
	makefile := []byte("VERSION = 6\nPATCHLEVEL = 1\n")
	if err := w.WriteHeader(&tar.Header{Name: "linux/Makefile", Mode: 0o644, Size: int64(len(makefile))}); err != nil {
		t.Fatal(err)
	}
	write(makefile)
	if err := errors.Join(w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if k, err := Resolve(t.Context(), ResolveOptions{Store: store(t), Source: path}); !errors.Is(err, bound.ErrTooLarge) {
		t.Errorf("got %+v, %v", k, err)
	}
}

// TestPlainHTTP requests a source without a known digest over a connection that is not
// authenticated.
func TestPlainHTTP(t *testing.T) {
	if _, err := Resolve(t.Context(), ResolveOptions{Store: store(t), Source: "http://192.0.2.1/linux-6.1.tar.xz", Fetch: &fetch.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		t.Errorf("asked %s", req.URL)
		return nil, errors.New("no network in this test")
	})}}); !errors.Is(err, fetch.ErrInsecure) {
		t.Errorf("got %v", err)
	}
}
