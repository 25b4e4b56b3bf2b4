package disk

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/image/verity"
)

// tiny returns an image with minimal content.
func tiny(t *testing.T) *image {
	t.Helper()
	rootfs, err := os.Create(filepath.Join(t.TempDir(), "rootfs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rootfs.Close() })
	const data = 16 << 10
	if err := rootfs.Truncate(data); err != nil {
		t.Fatal(err)
	}
	root, err := verity.Write(t.Context(), rootfs, data)
	if err != nil {
		t.Fatal(err)
	}
	return &image{
		manifest: &manifest.Manifest{Name: "tiny", Verity: &manifest.Verity{DataSize: data}},
		spec:     &vmspec.Spec{Arch: "amd64", Disks: []vmspec.Disk{{Role: vmspec.RoleData, Size: 128 << 20}}},
		kernel:   []byte("kernel"), init: []byte("init"), rootfs: rootfs, size: verity.FileSize(data), root: root,
	}
}

// TestReproducible makes the disk of one artifact twice, a day apart, and those of other artifacts,
// which must not share GUIDs.
func TestReproducible(t *testing.T) {
	dir, a := t.TempDir(), tiny(t)
	sum := func(t *testing.T, name string) (sum [32]byte) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := a.write(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<40)); err != nil {
			t.Fatal(err)
		}
		h.Sum(sum[:0])
		return sum
	}
	synctest.Test(t, func(t *testing.T) {
		var sums [][32]byte
		for i := range 2 {
			sums = append(sums, sum(t, strconv.Itoa(i)))
			time.Sleep(24 * time.Hour)
		}
		if sums[0] != sums[1] {
			t.Error("the same artifact gives another disk a day later")
		}
	})
	one := sum(t, "one")
	a.kernel = []byte("another kernel")
	if sum(t, "two") == one {
		t.Error("another kernel gives the same disk")
	}
}

// TestSize checks that the data partition has the size of vm.data.
func TestSize(t *testing.T) {
	for _, size := range []int64{256 << 20, 8 << 30} {
		a := tiny(t)
		a.spec.Disks[0].Size = size
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := a.write(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		table, err := gpt.Read(f, 512, 512)
		if err != nil {
			t.Fatal(err)
		}
		if data := int64(table.Partitions[3].Size); data != size {
			t.Errorf("the data partition has %d bytes, want %d", data, size)
		}
	}
}
