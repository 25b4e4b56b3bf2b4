package datadisk

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/diskfstest"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// TestEarlierDisk uses a disk of an earlier version before and after Grow. The guest enlarges the
// file system.
func TestEarlierDisk(t *testing.T) {
	const size, larger = 256 << 20, 16 << 30
	name := filepath.Join(t.TempDir(), "data.img")
	diskfstest.DataDisk(t, name, size)
	mnt, umount := mounttest.Loop(t, name, "")
	content := bytes.Repeat([]byte("kept\n"), 20_000)
	write := func(dir string, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file ", i)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(mnt, 0, 100)
	umount()
	if grown, err := Grow(name, larger); err != nil || !grown {
		t.Fatalf("grow: %v, %v", grown, err)
	}
	mnt, umount = mounttest.Loop(t, name, "")
	write(mnt, 100, 200)
	umount()
	if out, err := exec.Command("e2fsck", "-fn", name).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs, err := ext4.Open(f, larger)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if got, err := fs.ReadFile(fmt.Sprint("file ", i)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("file %d comes back as %d bytes, %v", i, len(got), err)
		}
	}
}

// TestUUIDsDiffer: new disks have different UUIDs, so a computer can attach several of them.
func TestUUIDsDiffer(t *testing.T) {
	seen := map[[16]byte]bool{}
	for range 3 {
		name := filepath.Join(t.TempDir(), "data.img")
		if err := Create(t.Context(), name, MinSize); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fs, err := ext4.Open(f, MinSize)
		if err != nil {
			t.Fatal(err)
		}
		s := fs.Super()
		if seen[s.UUID] || s.UUID[6]>>4 != 4 || s.UUID[8]>>6 != 2 || s.Label != guestspec.DataLabel {
			t.Errorf("UUID %x, label %q", s.UUID, s.Label)
		}
		seen[s.UUID] = true
	}
}
