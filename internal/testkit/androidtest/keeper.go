package androidtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// keeperName is the name under which the test binary is started again as a phone's first process.
const keeperName = "androidtest-keeper"

// killerPoll is how often the killer looks.
const killerPoll = 100 * time.Millisecond

func init() {
	if os.Args[0] != keeperName {
		return
	}
	if err := keep(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keep is the life of a phone's first process: it makes the phone's root file system of the folder given first, says so,
// reaps what is left to it, and kills what Android does not know after the time given second. It ends with the pipe that
// is its standard input.
func keep(args []string) error {
	untracked, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	if args[0] != "" {
		if err := makeRoot(args[0]); err != nil {
			return fmt.Errorf("make the phone's root: %w", err)
		}
		go kill(untracked)
		if err := lightguest.Serve(); err != nil {
			return fmt.Errorf("make light guests: %w", err)
		}
	}
	fmt.Println("ready")
	go func() {
		os.Stdin.Read(make([]byte, 1)) // until the test closes it, or ends
		os.Exit(0)
	}()
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			time.Sleep(10 * time.Millisecond) // no child at present
		}
	}
}

// makeRoot makes a root file system of the computer's programs, read-only, and the phone's own folders, which are in
// dir, and makes it this mount namespace's.
func makeRoot(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib64", "etc"} {
		if err := borrow("/"+name, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"data", "apex", "system", "calls", "props"} {
		if err := bind(filepath.Join(dir, name), filepath.Join(root, name), 0); err != nil {
			return err
		}
	}
	if err := makeDev(filepath.Join(root, "dev"), filepath.Join(dir, "nodes")); err != nil {
		return err
	}
	for _, m := range []struct{ source, target string }{{"proc", "proc"}, {"sysfs", "sys"}, {"tmpfs", "tmp"}, {"tmpfs", "run"}, {"tmpfs", "var"}} {
		target := filepath.Join(root, m.target)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, target, m.source, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
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

// A node is a device of the phone's own.
type node struct {
	Name     string
	Mode     uint32
	UID, GID int
}

// makeDev makes a /dev of the computer's devices that programs on a phone use, and of the nodes that a file lists as JSON.
// Those are there to be seen and opened; whoever opens one gets what /dev/null is. ueventd makes the node of TAP interfaces
// at /dev/tun, and init a link to it at the place where programs look (rootdir/init.rc).
func makeDev(dev, list string) error {
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
	for name, target := range map[string]string{"fd": "/proc/self/fd", "net/tun": "../tun"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	nodes := []node{{"tun", 0o660, aidSystem, aidVPN}}
	var more []node
	if err := json.Unmarshal(text, &more); err != nil {
		return err
	}
	for _, n := range append(nodes, more...) {
		device := unix.Mkdev(1, 3) // /dev/null, Documentation/admin-guide/devices.txt
		if n.Name == "tun" {
			device = unix.Mkdev(10, 200)
		}
		path := filepath.Join(dev, n.Name)
		if err := unix.Mknod(path, unix.S_IFCHR|n.Mode, int(device)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", n.Name, err)
		}
		if err := os.Chown(path, n.UID, n.GID); err != nil {
			return err
		}
		if err := os.Chmod(path, os.FileMode(n.Mode)); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

// Users of Android (android_filesystem_config.h).
const (
	aidSystem = 1000
	aidVPN    = 1016
)

// borrow makes a folder of the computer's visible, read-only, or its symbolic link.
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

// kill ends every crosvm that has been without a parent of its own for a while, as Android does, and notes it.
func kill(after time.Duration) {
	seen := map[int]time.Time{}
	for ; ; time.Sleep(killerPoll) {
		orphans := orphanedCrosvms()
		for pid := range seen {
			if !orphans[pid] {
				delete(seen, pid)
			}
		}
		for pid := range orphans {
			if seen[pid].IsZero() {
				seen[pid] = time.Now()
			}
			if time.Since(seen[pid]) < after {
				continue
			}
			unix.Kill(pid, unix.SIGKILL)
			note("/calls/killer", fmt.Sprintf("Untracked process crosvm %d SIGKILL", pid))
			delete(seen, pid)
		}
	}
}

func note(path, line string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// orphanedCrosvms are the processes of the program crosvm, whatever they call themselves, that were adopted by the first
// process.
func orphanedCrosvms() map[int]bool {
	out := map[int]bool{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return out
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || filepath.Base(program) != "crosvm" {
			continue
		}
		// proc(5): pid (comm) state ppid …
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == "1" {
			out[pid] = true
		}
	}
	return out
}
