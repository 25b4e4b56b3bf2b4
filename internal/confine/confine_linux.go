package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user and group that programs run as (the kernel's overflow IDs).
const nobody = 65534

// A plan is the input of the first process in the new namespaces.
type plan struct {
	Path, Dir, Root, Temporary string
	Args, Env, Write, Read     []string
	Nested                     bool // sov is not root: the user nobody requires a nested user namespace
}

// namespaces are the new namespaces of a program, in addition to a user namespace.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

var checked struct {
	sync.Mutex
	done bool
	err  error
}

// Check returns nil if programs can be confined here, otherwise an error that wraps ErrUnsupported
// and names the reason. It runs a confined program once and keeps the result.
func Check(ctx context.Context) error {
	checked.Lock()
	defer checked.Unlock()
	if checked.done {
		return checked.err
	}
	err := Command{Path: "/bin/sh", Args: []string{"-c", ":"}, Dir: "/"}.Run(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	checked.done, checked.err = true, err
	return err
}

// confined runs the program in namespaces.
func (c Command) confined(ctx context.Context) error {
	root, err := os.MkdirTemp("", "sov-confined-")
	if err != nil {
		return err
	}
	defer os.Remove(root)
	asRoot := os.Geteuid() == 0
	if asRoot {
		dirs := c.Write
		if c.Temporary != "" {
			dirs = append(slices.Clone(dirs), c.Temporary)
		}
		for _, dir := range dirs {
			if err := os.Lchown(dir, nobody, nobody); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(plan{Path: c.Path, Dir: c.Dir, Root: root, Temporary: c.Temporary, Args: c.Args, Env: c.Env, Write: c.Write, Read: c.Read, Nested: !asRoot})
	if err != nil {
		return err
	}
	err = c.run(ctx, text, attributes(asRoot, true))
	if setup := new(setupError); asRoot && errors.As(err, &setup) && ctx.Err() == nil {
		// User namespaces may be disabled or limited. Root does not need them.
		err = c.run(ctx, text, attributes(asRoot, false))
	}
	return err
}

func attributes(asRoot, users bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: namespaces, Setpgid: true}
	if !users {
		return a
	}
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	if asRoot {
		a.UidMappings = append(a.UidMappings, syscall.SysProcIDMap{ContainerID: nobody, HostID: nobody, Size: 1})
		a.GidMappings = append(a.GidMappings, syscall.SysProcIDMap{ContainerID: nobody, HostID: nobody, Size: 1})
		a.GidMappingsEnableSetgroups = true
	}
	return a
}

// A setupError is the reason why a program could not be confined.
type setupError struct{ text string }

func (e *setupError) Error() string { return e.text }

// run executes this program again as the first process of new namespaces, which sets up the mounts
// and runs the program.
func (c Command) run(ctx context.Context, text []byte, a *syscall.SysProcAttr) error {
	planReader, planWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer planReader.Close()
	defer planWriter.Close()
	reportReader, reportWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reportReader.Close()
	defer reportWriter.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{argument}
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.ExtraFiles = []*os.File{planReader, reportWriter}
	cmd.SysProcAttr = a
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		return &setupError{fmt.Sprintf("start a process in separate namespaces: %v", err)}
	}
	planReader.Close()
	reportWriter.Close()
	_, err = planWriter.Write(text)
	planWriter.Close()
	setupMessage, _ := io.ReadAll(io.LimitReader(reportReader, 4096)) // ends when the program is executed
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case len(setupMessage) > 0:
		return &setupError{string(setupMessage)}
	case ended != nil:
		return ended
	}
	return err
}

// argument is this program's name as the first process of new namespaces.
const argument = "sov: confined"

// File descriptors of that process.
const (
	planFile   = 3
	reportFile = 4
)

// init runs that process instead of main.
func init() {
	if len(os.Args) == 1 && os.Args[0] == argument && os.Getpid() == 1 {
		report := os.NewFile(reportFile, "report")
		// This includes descriptors that sov inherited.
		unix.CloseRange(planFile, 1<<30, unix.CLOSE_RANGE_CLOEXEC)
		status, err := first()
		if err != nil {
			fmt.Fprint(report, err)
			status = 1
		}
		os.Exit(status)
	}
}

// first sets up the mounts, runs the program and returns its exit status.
func first() (int, error) {
	var p plan
	if err := json.NewDecoder(os.NewFile(planFile, "plan")).Decode(&p); err != nil {
		return 0, fmt.Errorf("read the plan: %w", err)
	}
	if err := unix.Sethostname([]byte("sov")); err != nil {
		return 0, fmt.Errorf("set the host name: %w", err)
	}
	if err := p.root(); err != nil {
		return 0, err
	}
	runtime.LockOSThread() // no_new_privs is set for this thread, which must also fork
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up new privileges: %w", err)
	}
	// exec.Cmd is not used, because this process waits for all children and passes files 0 to 2 on
	// unchanged.
	attr := &syscall.ProcAttr{Dir: p.Dir, Env: lastOf(p.Env), Files: []uintptr{0, 1, 2}, Sys: p.attributes()}
	pid, err := syscall.ForkExec(p.Path, append([]string{p.Path}, p.Args...), attr)
	if err != nil {
		return 0, fmt.Errorf("run %s without privileges: %w", p.Path, err)
	}
	unix.Close(reportFile) // later errors are the program's
	return reap(pid), nil
}

// lastOf keeps only the last value of each variable, as package os/exec does.
func lastOf(env []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, v := range slices.Backward(env) {
		if name, _, _ := strings.Cut(v, "="); !seen[name] {
			seen[name] = true
			out = append(out, v)
		}
	}
	slices.Reverse(out)
	return out
}

// attributes returns the attributes to run the program as the user nobody. Executing it as that
// user drops this process's capabilities in its user namespace.
func (p *plan) attributes() *syscall.SysProcAttr {
	if !p.Nested {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}, Setsid: true}
	}
	one := []syscall.SysProcIDMap{{ContainerID: nobody, HostID: 0, Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one, Setsid: true}
}

// reap waits for children until the child with this process ID has ended, and returns its exit
// status. The others end with this process, which is process 1.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}

// system are the paths of programs and libraries, and the dynamic linker's configuration. Missing
// ones are skipped.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
}

// devices are the device nodes that programs need.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// root builds a file system of the files that the program may access, and makes it the root of this
// mount namespace.
func (p *plan) root() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("sov", p.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("mount an empty file system: %w", err)
	}
	if p.Temporary != "" {
		if err := p.bind(p.Temporary, "/tmp", false); err != nil {
			return err
		}
	}
	for _, path := range append(system, p.Read...) {
		if err := p.show(path); err != nil {
			return err
		}
	}
	for _, path := range p.Write {
		if err := p.bind(path, path, false); err != nil {
			return err
		}
	}
	if err := p.devices(); err != nil {
		return err
	}
	return p.enter()
}

// show makes a file, folder or symbolic link readable at the same path. It ignores a path that does
// not exist.
func (p *plan) show(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		at := filepath.Join(p.Root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, at); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if real, err := filepath.EvalSymlinks(path); err == nil && !below(system, real) {
			return p.bind(real, real, true)
		}
		return nil
	}
	return p.bind(path, path, true)
}

func below(folders []string, path string) bool {
	for _, f := range folders {
		if path == f || strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// bind bind-mounts source at path in the new root.
func (p *plan) bind(source, path string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	at := filepath.Join(p.Root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("show %s: %w", path, err)
	}
	if info.IsDir() {
		err = os.MkdirAll(at, 0o755)
	} else if f, e := os.OpenFile(at, os.O_CREATE|os.O_RDONLY, 0o644); e == nil {
		f.Close()
	} else {
		err = e
	}
	if err != nil {
		return fmt.Errorf("show %s: %w", path, err)
	}
	if err := unix.Mount(source, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s: %w", path, err)
	}
	set := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if info.Mode()&fs.ModeDevice == 0 {
		set.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if readOnly {
		set.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, set); err != nil { // since Linux 5.12
		return fmt.Errorf("restrict %s: %w", path, err)
	}
	return nil
}

// devices creates /dev, and mounts /proc of the new PID namespace if that is allowed. Containers
// often forbid it.
func (p *plan) devices() error {
	for _, device := range devices {
		if err := p.bind(device, device, false); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(p.Root, "dev", name)); err != nil {
			return err
		}
	}
	proc := filepath.Join(p.Root, "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		return err
	}
	_ = unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}

// enter makes the new root the only one (pivot_root(2), "pivot_root(".", ".")").
func (p *plan) enter() error {
	if err := unix.Mount("", p.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	if err := os.Chdir(p.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Chdir("/")
}
