//go:build linux

package process

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Confinement describes the restrictions of a process. They are applied between fork and execve:
// sov-init executes itself under the name [Confined], drops its rights, and executes the program.
//
// The program sees the image and the data disk read-only, an empty /tmp and /dev/shm, a /dev of a
// few devices, and no process of other users in /proc.
type Confinement struct {
	Write   []string `json:"write,omitempty"`   // writable paths; sorted, none inside another
	Hidden  []string `json:"hidden,omitempty"`  // directories and files that appear empty
	Devices []string `json:"devices,omitempty"` // in addition to commonDevices
	// Capabilities are the names that guestspec.Capability knows; all others are dropped.
	Capabilities []string `json:"capabilities,omitempty"`
	Files        int      `json:"files,omitempty"` // RLIMIT_NOFILE; 0: that of sov-init
	// Rlimits are other limits, in bytes, by the names of guestspec.RlimitNames.
	Rlimits map[string]int64 `json:"rlimits,omitempty"`
}

// Confined is the name (argv[0]) under which sov-init calls [Become].
const Confined = "sov-confined"

// reportFD is the descriptor to which Become writes its error.
const reportFD = 3

// instructions are the input of Become.
type instructions struct {
	Confinement
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	Dir    string   `json:"dir"`
}

// start starts a process that confines itself, and returns after its execve.
func (c *Confinement) start(r *Reaper, argv []string, attr *syscall.ProcAttr, oomScoreAdj int) (*Process, error) {
	cred := attr.Sys.Credential
	text, err := json.Marshal(instructions{*c, cred.Uid, cred.Gid, cred.Groups, attr.Dir})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	report, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer report.Close()
	attr.Files = append(attr.Files, w.Fd()) // standard input, output and error precede it
	attr.Dir, attr.Sys.Credential = "", nil
	attr.Sys.Cloneflags |= unix.CLONE_NEWNS
	p, err := r.start("/proc/self/exe", append([]string{Confined, string(text)}, argv...), attr, oomScoreAdj)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p.program = argv[0]
	reason, err := io.ReadAll(io.LimitReader(report, 4<<10)) // ends with the execve, which closes the other end
	if err != nil || len(reason) > 0 {
		<-p.Ended
		return nil, fmt.Errorf("start %s: %s", argv[0], cmp.Or(string(reason), fmt.Sprint(err)))
	}
	return p, nil
}

// Become confines this process and becomes its program. args are this process's: Confined, the
// instructions, and the program with its arguments. It returns only if it fails, with an exit
// status.
func Become(args []string) int {
	runtime.LockOSThread() // capabilities and no_new_privs belong to a thread
	unix.CloseOnExec(reportFD)
	err := become(args)
	fmt.Fprint(os.NewFile(reportFD, "report"), err)
	return 126 // the status of shells for a program that cannot be run
}

func become(args []string) error {
	var in instructions
	if len(args) < 3 {
		return fmt.Errorf("%s is for sov-init alone", Confined)
	}
	if err := json.Unmarshal([]byte(args[1]), &in); err != nil {
		return err
	}
	if err := in.enclose(); err != nil {
		return err
	}
	if err := in.limit(); err != nil {
		return err
	}
	if err := in.change(); err != nil {
		return err
	}
	if err := unix.Chdir(in.Dir); err != nil {
		return &fs.PathError{Op: "change to", Path: in.Dir, Err: err}
	}
	if err := filterCalls(in.Capabilities); err != nil {
		return err
	}
	if err := unix.Exec(args[2], args[2:], os.Environ()); err != nil {
		return &fs.PathError{Op: "execute", Path: args[2], Err: err}
	}
	return nil
}

// rlimits are the numbers of guestspec.RlimitNames.
var rlimits = map[string]int{"core": unix.RLIMIT_CORE, "fsize": unix.RLIMIT_FSIZE, "memlock": unix.RLIMIT_MEMLOCK, "stack": unix.RLIMIT_STACK}

// limit sets the resource limits of this process, which its children inherit.
func (in *instructions) limit() error {
	set := func(name string, number int, value uint64) error {
		if err := unix.Setrlimit(number, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", name, value, err)
		}
		return nil
	}
	for name, value := range in.Rlimits {
		if err := set(name, rlimits[name], uint64(value)); err != nil {
			return err
		}
	}
	if in.Files > 0 {
		return set("open files", unix.RLIMIT_NOFILE, uint64(in.Files))
	}
	return nil
}

// commonDevices are the devices that every program has.
var commonDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// kernelControls are files with which root can change the kernel. They are read-only for every
// service.
var kernelControls = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"}

// enclose sets up this process's view of the file system, in its own mount namespace.
func (in *instructions) enclose() error {
	// Open the trees that stay before anything is covered.
	kept := map[string]int{}
	var order []string
	for _, name := range slices.Concat(in.Write, commonDevices, in.Devices) {
		tree, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "hold", Path: name, Err: err}
		}
		kept[name] = tree
		order = append(order, name)
	}
	closed := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &closed); err != nil {
		return fmt.Errorf("make the file system read-only: %w", err)
	}
	for _, m := range []struct{ path, kind, options string }{
		{"/tmp", "tmpfs", "mode=1777"},
		{"/dev", "tmpfs", "mode=0755,size=64k"},
		{"/proc", "proc", "hidepid=ptraceable"},
	} {
		if err := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options); err != nil {
			return &fs.PathError{Op: "mount", Path: m.path, Err: err}
		}
	}
	if err := makeDev(); err != nil {
		return err
	}
	for _, name := range order {
		if err := put(kept[name], name); err != nil {
			return err
		}
	}
	for _, name := range in.Hidden {
		err := unix.Mount("tmpfs", name, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "mode=0000,nr_inodes=1,size=4k")
		if err == unix.ENOTDIR {
			err = unix.Mount("/dev/null", name, "", unix.MS_BIND, "")
		}
		if err != nil && err != unix.ENOENT {
			return &fs.PathError{Op: "cover", Path: name, Err: err}
		}
	}
	return in.closeControls()
}

// makeDev creates the entries of the new /dev that are not devices.
func makeDev() error {
	if err := os.Mkdir("/dev/shm", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return &fs.PathError{Op: "mount", Path: "/dev/shm", Err: err}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil {
			return err
		}
	}
	return nil
}

// put mounts a tree at its previous path, on top of the mount that now covers it.
func put(tree int, name string) error {
	var info unix.Stat_t
	if err := unix.Fstat(tree, &info); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/tmp/") {
		if err := makeTarget(name, info.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
			return err
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "keep", Path: name, Err: err}
	}
	return unix.Close(tree)
}

func makeTarget(name string, directory bool) error {
	if directory {
		return os.MkdirAll(name, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, nil, 0o600)
}

// closeControls makes kernelControls read-only, except those of the network for a process with
// CAP_NET_ADMIN.
func (in *instructions) closeControls() error {
	const networkControls = "/proc/sys/net"
	network := -1
	if slices.Contains(in.Capabilities, "net_admin") {
		var err error
		if network, err = unix.OpenTree(unix.AT_FDCWD, networkControls, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			return &fs.PathError{Op: "hold", Path: networkControls, Err: err}
		}
	}
	for _, name := range kernelControls {
		tree, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == unix.ENOENT {
			continue // not all kernels have it
		}
		if err == nil {
			err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		}
		if err != nil {
			return &fs.PathError{Op: "close", Path: name, Err: err}
		}
		if err := put(tree, name); err != nil {
			return err
		}
	}
	if network < 0 {
		return nil
	}
	return put(network, networkControls)
}

// change switches this thread to the user, with the given capabilities and without a way to gain
// more.
func (in *instructions) change() error {
	var kept []int
	var set [2]unix.CapUserData // bits 0 to 31, and 32 to 63
	for _, name := range in.Capabilities {
		number, ok := guestspec.Capability(name)
		if !ok {
			return fmt.Errorf("capability %q is unknown", name)
		}
		kept = append(kept, number)
		set[number/32].Permitted |= 1 << (number % 32)
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(kept, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL { // an older kernel has fewer
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	groups := make([]int, len(in.Groups))
	for i, g := range in.Groups {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := unix.Setresgid(int(in.GID), int(in.GID), int(in.GID)); err != nil {
		return fmt.Errorf("become group %d: %w", in.GID, err)
	}
	if err := unix.Setresuid(int(in.UID), int(in.UID), int(in.UID)); err != nil {
		return fmt.Errorf("become user %d: %w", in.UID, err)
	}
	for i := range set {
		set[i].Effective, set[i].Inheritable = set[i].Permitted, set[i].Permitted
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &set[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	for _, number := range kept {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(number), 0, 0); err != nil {
			return fmt.Errorf("pass on capability %d: %w", number, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	return nil
}
