package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

var when = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

// makeDisk writes a small disk and returns the content of its kernel.
func makeDisk(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kernel := bytes.Repeat([]byte("a kernel\n"), 300_000)
	root := bytes.Repeat([]byte("root"), 1<<18)
	const data = 128 << 20
	err = Write(t.Context(), f, GUID("disk"), []Partition{
		{Name: "sov-esp", Type: TypeESP, GUID: GUID("esp"), Size: ESPSize, Write: ESP("EFI/BOOT/BOOTX64.EFI", kernel, 0x12345678, when)},
		{Name: "sov-root", Type: TypeRootAMD64, GUID: GUID("root"), Size: int64(len(root)), Write: Copy(bytes.NewReader(root), int64(len(root)))},
		{Name: "sov-data", Type: TypeLinux, GUID: GUID("data"), Size: data, Write: func(ctx context.Context, p *Section) error {
			_, err := ext4.Write(ctx, p, tree.New(), ext4.Options{Size: data, Journal: ext4.JournalSize(data), UUID: [16]byte{1}, ModTime: when})
			return err
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return kernel
}

// run runs a checking program and returns its output. It skips the test if the program is not
// installed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skip(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// partition copies a partition of a disk into a file and returns its path.
func partition(t *testing.T, disk string, number int) string {
	t.Helper()
	info := run(t, "sgdisk", "--info="+strconv.Itoa(number), disk)
	field := func(name string) int64 {
		_, rest, ok := strings.Cut(info, name+": ")
		n, err := strconv.ParseInt(strings.Fields(rest + " .")[0], 10, 64)
		if !ok || err != nil {
			t.Fatalf("sgdisk does not say %s: %v\n%s", name, err, info)
		}
		return n * sector
	}
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "partition")
	if err := os.WriteFile(path, b[field("First sector"):field("Last sector")+sector], 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestForeignPrograms checks a disk with sgdisk, fsck.fat, e2fsck and mtools.
func TestForeignPrograms(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.img")
	kernel := makeDisk(t, disk)
	if out := run(t, "sgdisk", "--verify", disk); !strings.Contains(out, "No problems found") || strings.Contains(out, "Warning") {
		t.Errorf("sgdisk:\n%s", out)
	}
	if out := run(t, "sgdisk", "--print", disk); !strings.Contains(out, "EF00") || !strings.Contains(out, "sov-data") || !strings.Contains(out, strings.ToUpper(GUID("disk"))) {
		t.Errorf("sgdisk:\n%s", out)
	}
	esp := partition(t, disk, 1)
	if out := run(t, "fsck.fat", "-n", "-v", esp); strings.Contains(out, "differ") || !strings.Contains(out, "32 bit entries") {
		t.Errorf("fsck.fat:\n%s", out)
	}
	if out := run(t, "e2fsck", "-f", "-n", partition(t, disk, 3)); strings.Contains(out, "Fix") {
		t.Errorf("e2fsck:\n%s", out)
	}
	if out := run(t, "mtype", "-i", esp, "::EFI/BOOT/BOOTX64.EFI"); out != string(kernel) {
		t.Errorf("the kernel has %d bytes of %d, or others", len(out), len(kernel))
	}
	if out := run(t, "mdir", "-/", "-i", esp, "::"); !strings.Contains(out, "1234-5678") || !strings.Contains(out, "2026-03-04   5:06") || strings.Contains(out, time.Now().Format("2006-01-02")) {
		t.Errorf("mdir:\n%s", out)
	}
}

// TestReproducible makes a disk twice, a day apart.
func TestReproducible(t *testing.T) {
	dir := t.TempDir()
	var sums [][32]byte
	synctest.Test(t, func(t *testing.T) {
		for i := range 2 {
			disk := filepath.Join(dir, strconv.Itoa(i))
			makeDisk(t, disk)
			b, err := os.ReadFile(disk)
			if err != nil {
				t.Fatal(err)
			}
			sums = append(sums, sha256.Sum256(b))
			time.Sleep(24 * time.Hour)
		}
	})
	if sums[0] != sums[1] {
		t.Error("the same options give other bytes a day later")
	}
}

func TestBounds(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct {
		p    Partition
		want string
	}{
		{Partition{Name: "odd", Size: 700}, "multiple of 512"},
		{Partition{Name: "late", Size: 512, Write: func(_ context.Context, p *Section) error { _, err := p.WriteAt([]byte("too much"), 508); return err }}, "partition late"},
		{Partition{Name: "full", Size: ESPSize, Write: ESP("KERNEL", make([]byte, ESPSize), 1, when)}, "partition full: make FAT32: KERNEL"},
		{Partition{Name: "names", Size: ESPSize, Write: ESP("EFI/kernel", nil, 1, when)}, "not a name of capitals"},
		{Partition{Name: "long", Size: 512, Write: func(_ context.Context, p *Section) error { return p.Truncate(513) }}, "partition long"},
	} {
		if err := Write(t.Context(), f, GUID("disk"), []Partition{tt.p}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
