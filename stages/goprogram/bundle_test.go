package goprogram

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/offline"
)

// offlineBuild compiles from a bundle alone.
func offlineBuild(t *testing.T, o Options) {
	files, err := Modules(t.Context(), o, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	index := &offline.Index{Format: offline.Format}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b, err := os.ReadFile(files[name])
		if err != nil {
			t.Fatal(err)
		}
		index.Items = append(index.Items, offline.Item{Kind: offline.Module, Name: name, Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b))})
	}
	path := filepath.Join(t.TempDir(), "bundle")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(offline.Write(w, index, func(i offline.Item) (io.ReadCloser, error) { return os.Open(files[i.Name]) }), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	if o.Bundle, err = offline.Open(path); err != nil {
		t.Fatal(err)
	}
	defer o.Bundle.Close()
	o.Offline, o.Dir = true, filepath.Join(o.Dir, "gone")
	t.Setenv("GOMODCACHE", t.TempDir())
	programs, _, err := build(t, o)
	if err != nil || len(programs) != 2 {
		t.Errorf("%v: %v", programs, err)
	}
}
