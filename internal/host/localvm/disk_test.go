package localvm

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWholeDisk: wholeDisk makes one copy, sparse and with the size of vm.data. The copy stays when
// the image changes.
func TestWholeDisk(t *testing.T) {
	dir, s := t.TempDir(), &state{dir: t.TempDir()}
	var said []string
	disk := func() (string, error) {
		d, err := s.wholeDisk(t.Context(), dir, func(format string, _ ...any) { said = append(said, format) })
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
	const larger = 16 << 20 // vm.data was increased
	if err := os.Truncate(image, larger); err != nil {
		t.Fatal(err)
	}
	if _, err := disk(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || len(got) != larger || string(got[:len(content)]) != string(content) {
		t.Errorf("a larger build: the copy has %d bytes, %v", len(got), err)
	}
}
