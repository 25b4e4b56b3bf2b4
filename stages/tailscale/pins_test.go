package tailscale

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/offline"
)

// TestForgedModule builds from a bundle in which a module's go.mod differs from tailscaled.sum. The
// go command must refuse it, even with a valid index, and also a module cache that was filled from
// it.
func TestForgedModule(t *testing.T) {
	name := module + "/@v/" + Version() + ".mod"
	content := []byte("module " + module + "\n\ngo 1.26\n")
	index := &offline.Index{Format: offline.Format, Items: []offline.Item{
		{Kind: offline.Module, Name: name, Size: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256(content))}}}
	var b bytes.Buffer
	if err := offline.Write(&b, index, func(offline.Item) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := offline.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	empty := t.TempDir()
	t.Setenv("GOMODCACHE", empty)
	t.Setenv("GONOSUMDB", "*")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Cleanup(func() {
		clean := exec.Command("go", "clean", "-modcache")
		clean.Env = append(os.Environ(), "GOMODCACHE="+empty)
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("go clean: %v: %s", err, out)
		}
	})
	for range 2 {
		_, _, err = Modules(t.Context(), Options{Arch: "arm64", Offline: true, Bundle: bundle}, t.TempDir(), nil)
		if err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
			t.Errorf("got %v", err)
		}
	}
}
