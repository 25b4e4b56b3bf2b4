package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

func TestExportToFullDisk(t *testing.T) {
	s := openStore(t, t.TempDir())
	b := put(t, s, randomBytes(1, 2<<20))
	out := mounttest.Tmpfs(t, "1m")
	_, err := s.Export(context.Background(), b, filepath.Join(out, "rootfs.img"), 0o644)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the disk that holds "+out+" is full") {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(out); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestOpenStoreWhereAFileIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	_, err := Open(file)
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}
