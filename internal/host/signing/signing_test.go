package signing

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

func TestNewKeyReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key, err := NewKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := dsse.LoadPrivate(path); err != nil || read.Public().ID() != key.Public().ID() {
		t.Errorf("%v, %v", read, err)
	}
	if _, err := NewKey(path); err == nil || !strings.Contains(err.Error(), "is not replaced") {
		t.Errorf("again: %v", err)
	}
}

func TestCheckRefusesUnsoundArtifacts(t *testing.T) {
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), []byte("rootfs"))
	if err := os.WriteFile(filepath.Join(dir, "rootfs.img"), []byte("other!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), dir); !errors.As(err, new(*UnsoundError)) {
		t.Errorf("a changed file: %v", err)
	}
	if err := Check(t.Context(), filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "sov build") {
		t.Errorf("no artifact: %v", err)
	}
}
