//go:build linux

// Package mounttest mounts images for tests, as root.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/await"
)

// Loop mounts an ext4 image by a loop device, with options as of Device, for the rest of the test or
// until the returned function is called, which may be called again. It skips the test where it runs
// without root or where there are no loop devices.
func Loop(t testing.TB, image, options string) (dir string, unmount func()) {
	t.Helper()
	device, detach := Attach(t, image, slices.Contains(strings.Split(options, ","), "ro"))
	dir, unmountDevice := Device(t, device, options)
	return dir, func() {
		t.Helper()
		unmountDevice()
		detach()
	}
}

// Attach gives an image a loop device for the rest of the test or until the returned function is
// called. The device has no users then. Attach skips the test where it runs without root or where
// there are no loop devices.
func Attach(t testing.TB, image string, readOnly bool) (device string, detach func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	defer control.Close()
	// The kernel detaches the device when it has no users left, also if the test is killed.
	flag, config := os.O_RDWR, unix.LoopConfig{Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if readOnly {
		flag = os.O_RDONLY
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	file, err := os.OpenFile(image, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	config.Fd = uint32(file.Fd())
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("a free loop device: %v", err)
		}
		device = fmt.Sprintf("/dev/loop%d", number)
		loop, err := os.OpenFile(device, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			detach = sync.OnceFunc(func() { loop.Close() })
			t.Cleanup(detach)
			return device, detach
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // another process was faster
			t.Fatalf("attach %s to %s: %v", image, device, err)
		}
	}
}

// Device mounts the ext4 file system on a block device, with mount options such as "ro" or "" for
// none, for the rest of the test or until the returned function is called, which may be called
// again. dir is a path that works in other processes too. No mount namespace has the mount:
// otherwise each namespace that another test creates meanwhile would have a copy of it, and would
// keep the file system mounted.
func Device(t testing.TB, device, options string) (dir string, unmount func()) {
	t.Helper()
	mount, err := mountDetached(device, options)
	if err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	unmount = sync.OnceFunc(func() {
		t.Helper()
		unix.Close(mount)
		if !await.Until(time.Minute, time.Millisecond, func() bool { return unused(device) }) {
			t.Errorf("%s is still mounted", device)
		}
	})
	t.Cleanup(unmount)
	// With the dot, the path is one of a directory, not one of a symbolic link.
	return fmt.Sprintf("/proc/%d/fd/%d/.", os.Getpid(), mount), unmount
}

// mountDetached returns a file descriptor of the root directory of a file system that is mounted
// until the descriptor is closed.
func mountDetached(device, options string) (mount int, err error) {
	fs, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return -1, err
	}
	for option := range strings.SplitSeq(options, ",") {
		if option == "" {
			continue
		}
		if err := unix.FsconfigSetFlag(fs, option); err != nil {
			return -1, fmt.Errorf("option %s: %w", option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// unused reports whether a block device is not mounted. A file system is the exclusive user of its
// device until it has been written completely.
func unused(device string) bool {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Unmount ends a mount, and waits up to half a minute while it is in use: a program that another
// goroutine has forked and that has not begun yet holds every file this process has open.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := unix.Unmount(dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Errorf("unmount %s: %v", dir, err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Tmpfs mounts an empty file system of a size such as "64k" for the rest of the test. It skips the
// test where it runs without root.
func Tmpfs(t testing.TB, size string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Fatalf("mount a tmpfs of %s: %v", size, err)
	}
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}
