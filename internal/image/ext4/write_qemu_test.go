//go:build linux

package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	diskfsfile "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// kernelEnv names a Linux kernel for this architecture, with virtio and ext4, for tests of what a
// container may not do: the Image or bzImage that sov build makes is one.
const kernelEnv = "EXT4_TEST_KERNEL"

// guestDone is what a machine of these tests prints last.
const guestDone = "guest: done"

// TestMain is the first process of the machines that TestGrowingInMachine starts.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		beInit()
	}
	os.Exit(m.Run())
}

// beInit enlarges the file system of /dev/vdb to its device while it is written to, and switches the machine off.
func beInit() {
	err := growInMachine()
	if err != nil {
		fmt.Println("guest: failed:", err)
	} else {
		fmt.Println(guestDone)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func growInMachine() error {
	const dir, disk = "/mnt", "/dev/vdb"
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount devtmpfs: %w", err)
	}
	if err := unix.Mount(disk, dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", disk, err)
	}
	device, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer device.Close()
	size, err := device.Seek(0, 2)
	if err != nil {
		return err
	}
	w := startWriter(filepath.Join(dir, "w"))
	began := time.Now()
	if err := resize(dir, size); err != nil {
		return err
	}
	during := w.n.Load()
	fmt.Printf("guest: enlarged in %v, %d files written meanwhile\n", time.Since(began), during)
	for i := range 50 { // in as many directories, of which each looks for a group of its own
		if err := writeSynced(filepath.Join(dir, "new", fmt.Sprint("directory ", i), "f"), []byte("f")); err != nil {
			return err
		}
	}
	for w.n.Load() < during+20 {
		time.Sleep(time.Millisecond)
	}
	close(w.stop)
	if err := <-w.done; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	fmt.Println("guest: files", w.n.Load())
	return unix.Unmount(dir, 0)
}

// resize asks the kernel for a file system of size bytes.
func resize(dir string, size int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	const ioctlResize = 0x40086610 // EXT4_IOC_RESIZE_FS, fs/ext4/ext4.h
	blocks := uint64(size / 4096)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlResize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("enlarge to %d blocks: %w", blocks, errno)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return err
	}
	if have := int64(s.Blocks) * s.Bsize; have < size*9/10 {
		return fmt.Errorf("enlarged to %d bytes of %d", have, size)
	}
	return nil
}

// TestGrowingInMachine does what TestGrowingMounted does in a machine, whose root may do all.
func TestGrowingInMachine(t *testing.T) {
	kernel := os.Getenv(kernelEnv)
	if kernel == "" {
		t.Skipf("%s names no kernel", kernelEnv)
	}
	needTools(t, "e2fsck", qemuName())
	root := selfAsRoot(t)
	for _, c := range []struct {
		from, to int64
		keeps    bool // the resize inode
		make     func(t *testing.T, size int64) string
	}{
		{64 << 20, 4 << 30, true, growingImage},
		{130<<20 + 12345, 64 * (130 << 20), true, growingImage},
		{8 << 30, 512 << 30, true, growingImage},
		{1 << 30, 200 << 30, false, growingImage}, // beyond the reserved
		{256 << 20, 16 << 30, false, diskfsImage},
	} {
		t.Run(fmt.Sprintf("%d MiB to %d GiB", c.from>>20, c.to>>30), func(t *testing.T) {
			image := c.make(t, c.from)
			if err := os.Truncate(image, c.to); err != nil {
				t.Fatal(err)
			}
			out := boot(t, kernel, root, image)
			var files int64
			for line := range strings.Lines(out) {
				_, _ = fmt.Sscanf(line, "guest: files %d", &files)
				if strings.HasPrefix(line, "guest: ") {
					t.Log(strings.TrimSpace(line))
				}
			}
			checkByE2fsckAfterUse(t, image)
			f := open(t, image)
			wantClean(t, f)
			if got := slices.Contains(f.Super().Features, "resize_inode"); got != c.keeps {
				t.Errorf("features after growing: %q", f.Super().Features)
			}
			w := &writer{dir: "w"}
			for i := range files {
				if got, err := f.ReadFile(w.path(i)); err != nil || !bytes.Equal(got, w.content(i)) {
					t.Fatalf("file %d of %d comes back as %d bytes, %v", i, files, len(got), err)
				}
			}
		})
	}
}

func growingImage(t *testing.T, size int64) string {
	image, _ := writeImage(t, tree.New(), growing(size))
	return image
}

// diskfsImage makes what data disks were made of before: without checksums, and without blocks reserved for growth.
func diskfsImage(t *testing.T, size int64) string {
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	_, err = diskfs.Create(diskfsfile.New(f, false), size, 0, 512, &diskfs.Params{
		SectorsPerBlock: 8,
		InodeRatio:      32768,
		Features:        []diskfs.FeatureOpt{diskfs.WithFeatureDirectoryIndices(true), diskfs.WithFeatureReservedGDTBlocksForExpansion(false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func qemuName() string {
	return "qemu-system-" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
}

// boot runs a machine with the image as its disk until it switches itself off, and returns what it said.
func boot(t *testing.T, kernel, root, image string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	args := []string{"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-m", "512", "-cpu", "max",
		"-kernel", kernel, "-append", "console=ttyS0 console=ttyAMA0 no_timer_check quiet panic=-1 root=/dev/vda ro init=/init",
		"-drive", "if=none,id=r,format=raw,readonly=on,file=" + root, "-device", "virtio-blk-pci,drive=r",
		"-drive", "if=none,id=d,format=raw,discard=unmap,file=" + image, "-device", "virtio-blk-pci,drive=d"}
	if runtime.GOARCH == "arm64" {
		args = append(args, "-machine", "virt")
	}
	out, err := exec.CommandContext(ctx, qemuName(), args...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(guestDone)) {
		t.Fatalf("the machine: %v\n%s", errors.Join(err, ctx.Err()), out)
	}
	return string(out)
}

// selfAsRoot makes a root file system of this program, built without C, as its /init.
func selfAsRoot(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the machine's init: %v\n%s", err, out)
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	b := corpusBuilder{t, tree.New()}
	b.put("init", &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Section(namedFile(program), 0, info.Size())})
	b.put("dev", &tree.Inode{Mode: tree.S_IFDIR | 0o755})
	b.put("mnt", &tree.Inode{Mode: tree.S_IFDIR | 0o755})
	image, _ := writeImage(t, b.tree, Options{})
	return image
}
