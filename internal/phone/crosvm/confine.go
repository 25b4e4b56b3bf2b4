package crosvm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/avf"
)

// A User is the unprivileged user for crosvm. The process has no capabilities and cannot gain any;
// its /dev contains only the hypervisor's device, the standard devices, and the folder of its
// control socket.
type User struct {
	ID int // of user and group
}

// UserFor returns the user for a machine's name, always the same. It is in the range that Android
// reserves for device makers (AID_OEM_RESERVED_2_START to _END, 5000 to 5999), which apps never
// have.
func UserFor(name string) *User {
	sum := sha256.Sum256([]byte("sov user " + name))
	return &User{ID: 5000 + int(binary.BigEndian.Uint32(sum[:])%1000)}
}

// ErrConfine is wrapped by the error if the phone does not allow running crosvm as another user.
var ErrConfine = errors.New("run crosvm without root's rights")

// Inside returns the path of the control socket for a crosvm that does not run as root: only root
// can enter the socket's parent folders.
func Inside(socket string) string {
	sum := sha256.Sum256([]byte(filepath.Dir(socket)))
	return filepath.Join("/dev/sov", hex.EncodeToString(sum[:8]), filepath.Base(socket))
}

// A launch is the launcher's input.
type launch struct {
	User       int    `json:"user,omitempty"`        // 0: it stays root
	Node       string `json:"node,omitempty"`        // the hypervisor's device
	Folder     string `json:"folder,omitempty"`      // of the control socket
	Inside     string `json:"inside,omitempty"`      // the folder's path for crosvm
	LockMemory bool   `json:"lock_memory,omitempty"` // crosvm may lock as much memory as it needs
	Requests   int    `json:"requests,omitempty"`    // descriptor of the pipe of requests
	Last       int    `json:"last"`                  // last descriptor for crosvm
}

// launcher is the name under which this program executes itself to confine and execute crosvm.
const launcher = "sov-crosvm"

// confineMark is the prefix of the launcher's errors for ErrConfine.
const confineMark = "confine: "

// launch returns the command of the launcher, and the file from which its error can be read.
func (p *Program) launch(m Machine, user *User, args []string, files *inheritance) (*exec.Cmd, *os.File, error) {
	// With Gunyah the guest's memory counts as locked; init's limit for scripts is 64 KiB
	// (rootdir/init.rc).
	l := launch{LockMemory: m.Options.Hypervisor == avf.Gunyah, Requests: files.requests, Last: firstInherited + len(files.files) - 1}
	if user != nil {
		folder := filepath.Dir(m.Socket)
		l.User, l.Node, l.Folder, l.Inside = user.ID, node(m.Options.Hypervisor), folder, filepath.Dir(Inside(m.Socket))
		if err := os.Chown(folder, user.ID, user.ID); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrConfine, err)
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return nil, nil, err
	}
	failure, report, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	command := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{launcher, string(text), p.Path}, args...), Env: append(os.Environ(), p.Env...),
		ExtraFiles: append([]*os.File{report}, files.files...), SysProcAttr: attributes(user)}
	return command, failure, nil
}

func init() {
	if len(os.Args) < 3 || os.Args[0] != launcher {
		return
	}
	runtime.LockOSThread() // some of the following calls affect only the thread
	report := os.NewFile(firstInherited-1, "report")
	unix.CloseOnExec(firstInherited - 1)
	fmt.Fprint(report, become(os.Args[1], os.Args[2], os.Args[2:]))
	os.Exit(1)
}

// become confines this process and executes crosvm. It returns only on failure, with the error's
// text.
func become(instructions, program string, argv []string) string {
	var l launch
	if err := json.Unmarshal([]byte(instructions), &l); err != nil {
		return err.Error()
	}
	if l.LockMemory {
		unlockMemory()
	}
	if l.Requests != 0 {
		unix.SetNonblock(l.Requests, false) // package os has made it non-blocking
	}
	closeAfter(l.Last)
	if l.User != 0 {
		if err := l.confine(); err != nil {
			return confineMark + err.Error()
		}
	}
	err := unix.Exec(program, argv, os.Environ())
	if l.User != 0 {
		return fmt.Sprintf("%s%s: %v", confineMark, program, err)
	}
	return fmt.Sprintf("%s: %v", program, err)
}

// closeAfter closes inherited descriptors that are not for crosvm: those of the program that
// started the runner.
func closeAfter(last int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > last {
			unix.CloseOnExec(fd)
		}
	}
}

// unlockMemory raises the limit of locked memory as far as possible. If it is still too low, crosvm
// reports it.
func unlockMemory() {
	const infinity = ^uint64(0)
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: infinity, Max: infinity}) == nil {
		return
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit) // raising to the hard limit is always allowed
	}
}

// commonNodes are the devices that every program has.
var commonNodes = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// shared are entries of /dev that Android's C library uses: properties and the log.
var shared = []string{"/dev/__properties__", "/dev/socket/logdw"}

// confine drops root's rights.
func (l launch) confine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	unix.Umask(0)
	if err := l.makeDev(); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL { // an older kernel has fewer
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Setgroups([]int{}); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	if err := unix.Setresgid(l.User, l.User, l.User); err != nil {
		return fmt.Errorf("become group %d: %w", l.User, err)
	}
	if err := unix.Setresuid(l.User, l.User, l.User); err != nil { // this also drops all capabilities
		return fmt.Errorf("become user %d: %w", l.User, err)
	}
	return nil
}

// makeDev mounts a private /dev for this process. It opens the entries that it takes from the old
// /dev first, because the new one covers it.
func (l launch) makeDev() error {
	type binding struct {
		handle int
		target string
		folder bool
	}
	var bindings []binding
	hold := func(path, target string) error {
		handle, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT && path != l.Folder {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		var info unix.Stat_t
		if err := unix.Fstat(handle, &info); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		bindings = append(bindings, binding{handle, target, info.Mode&unix.S_IFMT == unix.S_IFDIR})
		return nil
	}
	if err := hold(l.Folder, l.Inside); err != nil {
		return err
	}
	for _, path := range shared {
		if err := hold(path, path); err != nil {
			return err
		}
	}
	nodes := append([]string{l.Node}, commonNodes...)
	devices := map[string]uint64{}
	for _, path := range nodes {
		var info unix.Stat_t
		if err := unix.Stat(path, &info); err == nil {
			devices[path] = uint64(info.Rdev)
		}
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("mount a /dev: %w", err)
	}
	for path, device := range devices {
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(device)); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if err := os.Chown(path, l.User, l.User); err != nil {
			return err
		}
	}
	for _, b := range bindings {
		if err := os.MkdirAll(filepath.Dir(b.target), 0o755); err != nil {
			return err
		}
		var err error
		if b.folder {
			err = os.Mkdir(b.target, 0o755)
		} else {
			err = os.WriteFile(b.target, nil, 0o644)
		}
		if err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", b.handle), b.target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", b.target, err)
		}
		unix.Close(b.handle)
	}
	return nil
}
