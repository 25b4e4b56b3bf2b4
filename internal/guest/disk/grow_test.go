//go:build linux

package disk

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
)

// TestFileSystemSize: ext4Size returns the size that the file system was created with.
// growFileSystem does not change a file system that fills its disk.
func TestFileSystemSize(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data.img")
	must(t, datadisk.Create(t.Context(), name, 1<<30))
	blocks, block, err := ext4Size(name)
	if err != nil || blocks*block != 1<<30 || block != 4096 {
		t.Errorf("%d blocks of %d bytes, %v", blocks, block, err)
	}
	if from, to, err := growFileSystem(name, "/nowhere"); err != nil || from != 1<<30 || to != from {
		t.Errorf("from %d to %d, %v", from, to, err)
	}
	grown, err := datadisk.Grow(name, 2<<30)
	if err != nil || !grown {
		t.Fatal(grown, err)
	}
	if _, _, err := growFileSystem(name, "/proc"); err == nil || !strings.Contains(err.Error(), "from 1024 MiB to 2048 MiB") {
		t.Errorf("what is no ext4 is enlarged: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
