//go:build linux

package mounttest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlResize is EXT4_IOC_RESIZE_FS (fs/ext4/ext4.h): _IOW('f', 16, __u64), the new number of blocks.
const ioctlResize = 0x40086610

// CanGrow reports whether this process may enlarge a mounted file system. Root in a container often lacks the capability.
func CanGrow() bool {
	bound, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	return os.Geteuid() == 0 && err == nil && bound == 1
}

// Grow makes an image that Loop mounted at dir one of size bytes, with the loop device, and has the kernel enlarge its
// file system of 4 KiB blocks to that.
func Grow(t testing.TB, image, dir string, size int64) {
	t.Helper()
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	device, err := exec.Command("findmnt", "-n", "-o", "SOURCE", dir).Output()
	if err != nil {
		t.Fatalf("findmnt %s: %v", dir, err)
	}
	if out, err := exec.Command("losetup", "-c", strings.TrimSpace(string(device))).CombinedOutput(); err != nil {
		t.Fatalf("losetup -c %s: %v\n%s", device, err, out)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks := uint64(size / 4096)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlResize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		t.Fatalf("enlarge the file system at %s to %d blocks: %v", dir, blocks, errno)
	}
}
