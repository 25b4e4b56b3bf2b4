package apk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// zeros returns a gzip member with a tar of one file of size zeros. It compresses a thousand to
// one.
func zeros(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	e := tarFile(name, "")
	e.Size = size
	if err := w.WriteHeader(&e.Header); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(block)) {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestExpansion reads files that compress a thousand times better than any file of Alpine.
func TestExpansion(t *testing.T) {
	_, keys := testKey(t)
	index := zeros(t, "APKINDEX", 900<<20)
	words := gzipTar(t, false, tarFile("APKINDEX", strings.Repeat(fmt.Sprintf("P:a\nV:1\nC:Q1%s\nD:%s\n\n", strings.Repeat("A", 27)+"=", strings.Repeat("a ", 1<<20)), 40)))
	control := append(zeros(t, ".PKGINFO", 31<<20), zeros(t, "x", 31<<20)...)
	for _, tc := range []struct {
		name string
		file []byte
		read func([]byte) error
		want string
	}{
		{"index, not signed", index, func(b []byte) error { _, err := ReadIndex(bytes.NewReader(b), keys); return err }, "not signed"},
		{"index, no keys asked for", index, func(b []byte) error { _, err := ReadIndex(bytes.NewReader(b), nil); return err }, "out of proportion"},
		{"index of dependencies", words, func(b []byte) error { _, err := ReadIndex(bytes.NewReader(b), nil); return err }, "out of proportion"},
		{"control member", control, func(b []byte) error {
			_, err := OpenPackage(bytes.NewReader(b), int64(len(b)))
			return err
		}, "out of proportion"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var err error
			cost := costtest.Budget{Base: 16 << 20, Ratio: 256}.Run(t, len(tc.file), func() { err = tc.read(tc.file) })
			t.Logf("%d bytes: %d MiB allocated", len(tc.file), cost>>20)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestDataTarExpansion compares the size of a package's files with the size of the package,
// whatever its .PKGINFO states.
func TestDataTarExpansion(t *testing.T) {
	e := testFile("x: ").entry()
	e.Size, e.body = 200<<20, strings.Repeat("\x00", 200<<20)
	file := buildPackage(t, "pkgname = x\npkgver = 1\nsize = 209715200", nil, e)
	f, err := OpenPackage(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var n counter
	if err := f.DataTar(&n); err == nil || !strings.Contains(err.Error(), "out of proportion") {
		t.Errorf("%d bytes of a package of %d: %v", n, len(file), err)
	}
	t.Logf("%d bytes: %d MiB written", len(file), n>>20)
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
