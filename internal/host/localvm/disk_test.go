package localvm

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// TestWholeDisk makes one copy, with the holes of the image and the room of vm.data, and keeps it
// when the image is another.
func TestWholeDisk(t *testing.T) {
	dir, s := t.TempDir(), &state{dir: t.TempDir()}
	var said []string
	spec := &vmspec.Spec{Disks: []vmspec.Disk{{Role: vmspec.RoleData, Size: 128 << 20}}}
	disk := func() (string, error) {
		d, err := s.wholeDisk(t.Context(), dir, spec, func(format string, _ ...any) { said = append(said, format) })
		return d.Path, err
	}
	if _, err := disk(); err == nil || !strings.Contains(err.Error(), "`sov build` makes it with --format disk") {
		t.Errorf("no image: %v", err)
	}
	image := filepath.Join(dir, "disk.img")
	content := append(make([]byte, 8<<20), "the end"...)
	if err := os.WriteFile(image, content, 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := disk()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(content) {
		t.Errorf("the copy has %d bytes, %v", len(got), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if room := info.Sys().(*syscall.Stat_t).Blocks * 512; room > 1<<20 {
		t.Errorf("the copy takes %d bytes of room", room)
	}
	if err := os.WriteFile(image, []byte("another build"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(image, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := disk(); err != nil || len(said) != 1 {
		t.Errorf("another build: %v, said %q", err, said)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(content) {
		t.Errorf("another build: the copy has %d bytes, %v", len(got), err)
	}
	for _, size := range []int64{8 << 30, 4 << 30} { // the image has 2 GiB of them, and a copy is never made smaller
		spec.Disks[0].Size = size
		if _, err := disk(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(len("another build"))+6<<30 {
			t.Errorf("with vm.data of %d bytes the copy has %d, %v", size, info.Size(), err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := disk(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != int64(len("another build"))+2<<30 {
		t.Errorf("a new copy with vm.data of 4 GiB has %d bytes, %v", info.Size(), err)
	}
}
