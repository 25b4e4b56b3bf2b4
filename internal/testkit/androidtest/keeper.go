package androidtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// keeperName is the argument 0 under which the program is re-executed as a phone's first process.
const keeperName = "androidtest-keeper"

func init() {
	if os.Args[0] != keeperName {
		return
	}
	if err := keep(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keep runs a phone's first process. It makes the phone's root file system from the folder dir,
// prints "ready", and reaps orphaned processes. It exits when its standard input is closed.
func keep(dir string) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	if err := makeRoot(dir); err != nil {
		return fmt.Errorf("make the phone's root: %w", err)
	}
	if err := lightguest.Serve(); err != nil {
		return fmt.Errorf("make light guests: %w", err)
	}
	go keepWakeLocks("/sys/power", "/calls/wake_locks")
	fmt.Println("ready")
	go func() {
		os.Stdin.Read(make([]byte, 1)) // returns when the test closes it or ends
		os.Exit(0)
	}()
	for range children {
		for pid := 1; pid > 0; { // one signal may stand for several children
			pid, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
		}
	}
	return nil
}

// makeRoot makes a root file system of the computer's programs, read-only, and the phone's folders
// in dir, and pivots this mount namespace to it.
func makeRoot(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	// Debian's programs are for the tests: the phone's $PATH does not include /usr. The phone's
	// programs are linked with Debian's libraries.
	for _, name := range []string{"usr", "lib", "lib64", "etc"} {
		if err := borrow("/"+name, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"passwd", "group"} {
		if err := unix.Mount(filepath.Join(dir, name), filepath.Join(root, "etc", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /etc/%s: %w", name, err)
		}
	}
	if err := os.Symlink("/system/bin", filepath.Join(root, "bin")); err != nil {
		return err
	}
	for _, name := range []string{"data", "apex", "system", "calls", "props"} {
		if err := bind(filepath.Join(dir, name), filepath.Join(root, name), 0); err != nil {
			return err
		}
	}
	if err := makeDev(filepath.Join(root, "dev"), filepath.Join(dir, "nodes")); err != nil {
		return err
	}
	for _, m := range []struct{ source, target string }{{"proc", "proc"}, {"tmpfs", "tmp"}, {"tmpfs", "run"}, {"tmpfs", "var"}} {
		target := filepath.Join(root, m.target)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, target, m.source, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := makeSys(filepath.Join(root, "sys"), filepath.Join(dir, "sys")); err != nil {
		return fmt.Errorf("make /sys: %w", err)
	}
	if err := unix.Mount(filepath.Join(dir, "boot_id"), filepath.Join(root, "proc/sys/kernel/random/boot_id"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind boot_id: %w", err)
	}
	if err := os.Mkdir(filepath.Join(root, "old"), 0o755); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, filepath.Join(root, "old")); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove("/old")
}

// makeDev makes a /dev of those devices of the computer that programs on a phone use, and of the
// nodes in a file. Each line of the file has a name, mode, owner, group, major and minor number. A
// node gives access to this computer's device with these numbers.
func makeDev(dev, nodes string) error {
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"net", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		target := filepath.Join(dev, name)
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	// Init makes the second link (rootdir/init.rc); ueventd makes the node itself /dev/tun.
	for name, target := range map[string]string{"fd": "/proc/self/fd", "net/tun": "../tun"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(nodes)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var mode uint32
		var uid, gid int
		var major, minor uint32
		if _, err := fmt.Sscanf(line, "%s %o %d %d %d %d", &name, &mode, &uid, &gid, &major, &minor); err != nil {
			return fmt.Errorf("%s: %q: %w", nodes, line, err)
		}
		path := filepath.Join(dev, name)
		if err := unix.Mknod(path, unix.S_IFCHR|mode, int(unix.Mkdev(major, minor))); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		if err := errors.Join(os.Chown(path, uid, gid), os.Chmod(path, os.FileMode(mode))); err != nil {
			return err
		}
	}
	return nil
}

// makeSys makes a /sys of this kernel's network interfaces, the phone's control groups, and the
// folders power, power_supply and thermal of own, which tests may change.
func makeSys(sys, own string) error {
	if err := os.Mkdir(sys, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", sys, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	real := filepath.Join(sys, "real")
	if err := os.Mkdir(real, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", real, "sysfs", 0, ""); err != nil {
		return err
	}
	for _, name := range []string{"class", "fs", "fs/cgroup"} {
		if err := os.Mkdir(filepath.Join(sys, name), 0o755); err != nil {
			return err
		}
	}
	for name, from := range map[string]string{"devices": real + "/devices", "class/net": real + "/class/net", "power": own + "/power",
		"class/power_supply": own + "/power_supply", "class/thermal": own + "/thermal"} {
		if err := bind(from, filepath.Join(sys, name), 0); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Unmount(real, 0), os.Remove(real)); err != nil {
		return err
	}
	// This process is in the phone's group, which becomes the root of the new cgroup namespace
	// (cgroup_namespaces(7)). Package initialization runs on the main thread; threads that it
	// creates inherit its namespace.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the control groups: %w", err)
	}
	return unix.Mount("cgroup2", filepath.Join(sys, "fs/cgroup"), "cgroup2", 0, "")
}

// borrow bind-mounts a folder of the computer read-only, or copies it if it is a symbolic link.
func borrow(from, to string) error {
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := bind(from, to, unix.MS_REC); err != nil {
		return err
	}
	return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func bind(from, to string, flags uintptr) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	return nil
}

// keepWakeLocks simulates kernel/power/wakelock.c: a name written to wake_lock is held until it is
// written to wake_unlock. Both files are pipes here. The held names are in the file held, one a
// line.
func keepWakeLocks(power, held string) {
	names := map[string]bool{}
	var pipes []unix.PollFd
	for _, file := range []string{"wake_lock", "wake_unlock"} {
		// Opened for reading and writing, a pipe never reports its end.
		fd, err := unix.Open(filepath.Join(power, file), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return // a phone whose kernel has no wake locks
		}
		pipes = append(pipes, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(pipes, -1); err != nil {
			continue
		}
		for _, i := range writtenOrder(pipes) {
			text := make([]byte, 4096)
			n, err := unix.Read(int(pipes[i].Fd), text)
			if err != nil {
				continue // nothing was written to this pipe
			}
			for line := range strings.Lines(string(text[:n])) {
				name, _, _ := strings.Cut(strings.TrimSpace(line), " ") // without the timeout, in nanoseconds
				delete(names, name)
				if i == 0 && name != "" {
					names[name] = true
				}
			}
		}
		os.WriteFile(held, []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\n")), 0o644)
	}
}

// writtenOrder returns the indexes of two pipes in the order of their last writes.
func writtenOrder(pipes []unix.PollFd) []int {
	var stats [2]unix.Stat_t
	for i := range stats {
		unix.Fstat(int(pipes[i].Fd), &stats[i])
	}
	if stats[0].Mtim.Nano() < stats[1].Mtim.Nano() {
		return []int{0, 1}
	}
	return []int{1, 0}
}

func note(path, line string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}
