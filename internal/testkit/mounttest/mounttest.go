//go:build linux

// Package mounttest mounts images for tests, as root.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/await"
)

// Loop mounts an ext4 image by a loop device, with options as of Device, for the rest of the test
// or until the returned function is called, which may be called again. It skips the test if it runs
// without root or if there are no loop devices.
func Loop(t testing.TB, image, options string) (dir string, unmount func()) {
	t.Helper()
	device, detach := Attach(t, image, options == "ro")
	dir, unmountDevice := Device(t, device, options)
	return dir, func() {
		t.Helper()
		unmountDevice()
		detach()
	}
}

// attached are the loop devices of images, each a []string by the image's path.
var attached = struct {
	sync.Mutex
	devices map[string][]string
}{devices: make(map[string][]string)}

// awaitUnused waits until the earlier devices of an image are not mounted. The kernel unmounts the
// file systems of a mount namespace a moment after its processes have ended, and an image that is
// mounted twice gets damaged.
func awaitUnused(t testing.TB, image string) {
	t.Helper()
	attached.Lock()
	devices := slices.Clone(attached.devices[image])
	attached.Unlock()
	for _, device := range devices {
		awaitUnmounted(t, device)
	}
}

// Attach gives an image a loop device for the rest of the test or until the returned function is
// called. Nothing may use the device then. Earlier devices of the image may stay attached, but not
// mounted. Attach skips the test if it runs without root or if there are no loop devices.
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
	awaitUnused(t, image)
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
			attached.Lock()
			attached.devices[image] = append(attached.devices[image], device)
			attached.Unlock()
			detach = sync.OnceFunc(func() {
				attached.Lock()
				attached.devices[image] = slices.DeleteFunc(attached.devices[image], func(d string) bool { return d == device })
				attached.Unlock()
				loop.Close()
			})
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
// again. dir is a path that works in other processes too. Only a thread of this process has the
// mount: a mount namespace that another test creates meanwhile would get a copy of a mount of the
// process, and would keep the file system mounted.
func Device(t testing.TB, device, options string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	thread, end, ended := make(chan int), make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := mountHere(device, dir, options); err != nil {
			ended <- err
			return
		}
		thread <- unix.Gettid()
		<-end
		ended <- unix.Unmount(dir, unix.MNT_DETACH)
	}()
	select {
	case err := <-ended:
		t.Fatalf("mount %s: %v", device, err)
	case id := <-thread:
		dir = fmt.Sprintf("/proc/%d/task/%d/root%s", os.Getpid(), id, dir)
	}
	unmount = sync.OnceFunc(func() {
		t.Helper()
		close(end)
		if err := <-ended; err != nil {
			t.Errorf("unmount %s: %v", device, err)
		}
		awaitUnmounted(t, device)
	})
	t.Cleanup(unmount)
	return dir, unmount
}

// mountHere mounts a device in a new mount namespace of the calling thread.
func mountHere(device, dir, options string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a private mount namespace: %w", err)
	}
	flags := uintptr(0)
	if options == "ro" {
		flags, options = unix.MS_RDONLY, ""
	}
	return unix.Mount(device, dir, "ext4", flags, options)
}

// awaitUnmounted waits until a block device is not mounted.
func awaitUnmounted(t testing.TB, device string) {
	t.Helper()
	if !await.Until(time.Minute, time.Millisecond, func() bool { return unused(device) }) {
		t.Fatalf("%s is still mounted", device)
	}
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
