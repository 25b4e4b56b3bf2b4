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

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/diskimage"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestGrowPartition writes a disk image to a loop device with more room, and enlarges partition and
// file system while they are in use.
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
	// The kernel that runs the test may not look for partitions of loop devices, so that of the
	// data gets a device of its own. That the kernel is told of the new size is for a boot to show.
	loop := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "losetup", append(args, "--find", "--show", path)...).Output()
		if err != nil {
			t.Skip("no loop device: ", err)
		}
		device := strings.TrimSpace(string(out))
		t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })
		return device
	}
	whole := loop()
	device, err := os.OpenFile(whole, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	data, err := growTable(device, large)
	if err != nil || data.Size < large-4<<20 || data.Index != 2 {
		t.Fatalf("%+v, %v", data, err)
	}
	size := data.Size
	if data, err = growTable(device, large); err != nil || data.Size != size {
		t.Errorf("a second time: %+v, %v", data, err)
	}
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if out := run("sgdisk", "--verify", whole); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}
	part, mounted := loop("--offset", fmt.Sprint(data.Start*sectorSize), "--sizelimit", fmt.Sprint(size)), t.TempDir()
	run("mount", part, mounted)
	t.Cleanup(func() { exec.Command("umount", mounted).Run() })
	from, to, err := growFileSystem(part, mounted)
	if errors.Is(err, unix.EPERM) {
		t.Log("a container may not enlarge file systems (CAP_SYS_RESOURCE): a boot shows that")
	} else if err != nil || from != small || to < large-128<<20 {
		t.Errorf("the file system: from %d to %d, %v", from, to, err)
	}
	run("umount", mounted)
	run("e2fsck", "-f", "-n", part)
}

// TestGrowTableRefuses has disks that are not of an image, or whose last partition belongs to
// another system.
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
