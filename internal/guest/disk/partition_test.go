//go:build linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/diskimage"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestGrowPartition enlarges the partition and the file system of the data while they are in use.
// The loop device has more room than its partition table uses.
func TestGrowPartition(t *testing.T) {
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const small, large = 128 << 20, 512 << 20
	err = diskimage.Write(t.Context(), f, diskimage.GUID("disk"), []diskimage.Partition{
		{Name: "sov-root", Type: diskimage.TypeLinux, GUID: diskimage.GUID("root"), Size: 4096, Write: func(context.Context, *diskimage.Section) error { return nil }},
		{Name: guestspec.DataLabel, Type: diskimage.TypeLinux, GUID: diskimage.GUID("data"), Size: small, Write: func(ctx context.Context, p *diskimage.Section) error {
			_, err := ext4.Write(ctx, p, tree.New(), datadisk.FileSystem(small, guestspec.DataLabel, [16]byte{1}, time.Unix(0, 0)))
			return err
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(large); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("loop devices are root's")
	}
	out, err := exec.CommandContext(t.Context(), "losetup", "--partscan", "--find", "--show", path).Output()
	if err != nil {
		t.Skip("no loop device: ", err)
	}
	disk := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", disk).Run() })
	if _, err := partitionSize(disk, 2); err != nil { // this computer's kernel does not support GPT
		table, err := gpt.Read(f, sectorSize, sectorSize)
		if err != nil {
			t.Fatal(err)
		}
		run("addpart", disk, "2", fmt.Sprint(table.Partitions[1].Start), fmt.Sprint(small/sectorSize))
	}
	part, mounted := disk+"p2", t.TempDir()
	run("mount", part, mounted)
	t.Cleanup(func() { exec.Command("umount", mounted).Run() })

	from, to, err := GrowPartition(disk)
	if err != nil || from != small || to < large-4<<20 {
		t.Fatalf("the partition: from %d to %d, %v", from, to, err)
	}
	if size, err := deviceSize(part); err != nil || size != to {
		t.Errorf("to the kernel the partition has %d bytes, in its table %d, %v", size, to, err)
	}
	if from, again, err := GrowPartition(disk); err != nil || from != to || again != to {
		t.Errorf("a second time: from %d to %d, %v", from, again, err)
	}
	if out := run("sgdisk", "--verify", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}

	from, size, err := growFileSystem(part, mounted)
	run("umount", mounted)
	if errors.Is(err, unix.EPERM) {
		t.Log("a container may not enlarge a mounted file system (CAP_SYS_RESOURCE), which TestDiskImage shows")
		run("e2fsck", "-f", "-p", part)
		run("resize2fs", part)
	} else if err != nil || from != small || size < large-128<<20 {
		t.Errorf("the file system: from %d to %d, %v", from, size, err)
	}
	run("e2fsck", "-f", "-n", part)
	if blocks, block, err := ext4Size(part); err != nil || blocks*block < large-128<<20 {
		t.Errorf("the file system has %d blocks of %d bytes, %v", blocks, block, err)
	}
}

// TestGrowTableRefuses: growTable refuses disks that were not written as an image, and those whose
// last partition belongs to another system.
func TestGrowTableRefuses(t *testing.T) {
	for name, last := range map[string]string{"the data are not last": "swap", "no table": ""} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(8 << 20); err != nil {
			t.Fatal(err)
		}
		nothing := func(context.Context, *diskimage.Section) error { return nil }
		if last != "" {
			err = diskimage.Write(t.Context(), f, diskimage.GUID("disk"), []diskimage.Partition{
				{Name: guestspec.DataLabel, Type: diskimage.TypeLinux, GUID: diskimage.GUID("1"), Size: 4096, Write: nothing},
				{Name: last, Type: diskimage.TypeLinux, GUID: diskimage.GUID("2"), Size: 4096, Write: nothing}})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := growTable(f, 16<<20); err == nil {
			t.Errorf("%s: enlarged", name)
		}
	}
}
