//go:build linux

// Package mounttest mounts images for tests, as root.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Loop mounts an ext4 image by a loop device, with mount options such as "ro" or "" for none, for
// the rest of the test or until the returned function is called, which may be called again. It
// skips the test where it runs without root or where there are no loop devices.
func Loop(t testing.TB, image, options string) (dir string, unmount func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting an image needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	dir = t.TempDir()
	all := "loop"
	if options != "" {
		all += "," + options
	}
	if out, err := exec.Command("mount", "-t", "ext4", "-o", all, image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v\n%s", image, err, out)
	}
	var device unix.Stat_t
	if err := unix.Stat(dir, &device); err != nil {
		t.Fatal(err)
	}
	backing := fmt.Sprintf("/sys/dev/block/%d:%d/loop/backing_file", unix.Major(device.Dev), unix.Minor(device.Dev))
	mounted := true
	unmount = func() {
		t.Helper()
		if mounted {
			mounted = false
			Unmount(t, dir)
			awaitDetached(t, backing, image)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// awaitDetached waits until the kernel has detached a loop device, which it does when the file
// system has been written to it. A mount namespace that another test has just created has a copy of
// each mount, and the file system stays until that is gone as well.
func awaitDetached(t testing.TB, backing, image string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		file, err := os.ReadFile(backing)
		if err != nil || strings.TrimSpace(string(file)) != image { // another image may have the device by now
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s is still mounted in another mount namespace", image)
			return
		}
	}
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
