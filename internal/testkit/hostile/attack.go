//go:build linux

// Command hostile attacks a guest as one of its services. "all PID" prints a line for each attack:
// its name, a tab, and its error or <nil>. PID is a process of PostgreSQL. The other arguments
// exhaust a resource: fork, memory, print, and flood ADDRESS.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attacks returns functions that return nil if they succeed. victim is a process of PostgreSQL.
func attacks(victim int) map[string]func() error {
	return map[string]func() error{
		"mount a file system":              func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") },
		"make the root writable":           func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"clone a mount":                    func() error { return result(unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)) },
		"mount namespace":                  func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		"user namespace":                   func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"child in a user namespace":        func() error { return child(unix.CLONE_NEWUSER) },
		"child in a network namespace":     func() error { return child(unix.CLONE_NEWNET) },
		"namespaces of sov-init":           func() error { return setns("/proc/1/ns/mnt") },
		"leave the root":                   func() error { return unix.Chroot("/tmp") },
		"trace PostgreSQL":                 func() error { return unix.PtraceSeize(victim) },
		"trace sov-init":                   func() error { return unix.PtraceSeize(1) },
		"read PostgreSQL's memory":         func() error { return open(fmt.Sprintf("/proc/%d/mem", victim), os.O_RDONLY) },
		"read sov-init's memory":           func() error { return open("/proc/1/mem", os.O_RDONLY) },
		"read sov-init's memory by a call": func() error { return readMemory(1) },
		"see PostgreSQL in /proc":          func() error { return result(os.Stat(fmt.Sprintf("/proc/%d", victim))) },
		"read sov-init's environment":      func() error { return open("/proc/1/environ", os.O_RDONLY) },
		"open sov-init's descriptors":      func() error { return result(os.ReadDir("/proc/1/fd")) },
		"signal PostgreSQL":                func() error { return unix.Kill(victim, 0) },
		"signal sov-init":                  func() error { return unix.Kill(1, 0) },
		"descriptor of sov-init":           func() error { return result(unix.PidfdOpen(1, 0)) },
		"limit PostgreSQL":                 func() error { return unix.Prlimit(victim, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1}, nil) },
		"slow PostgreSQL down":             func() error { return unix.Setpriority(unix.PRIO_PROCESS, victim, 19) },
		"raw socket":                       func() error { return result(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)) },
		"packet socket":                    func() error { return result(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)) },
		"privileged port":                  func() error { return listen("0.0.0.0:80") },
		"switch the network off":           linkDown,
		"read PostgreSQL's data":           func() error { return open("/data/postgres/PG_VERSION", os.O_RDONLY) },
		"read Tailscale's state":           func() error { return result(os.ReadDir("/data/tailscale")) },
		"write to the data disk":           func() error { return write("/data/file") },
		"write to /run":                    func() error { return write("/run/file") },
		"write to the image":               func() error { return write("/etc/sov/file") },
		"remove PostgreSQL's socket":       func() error { return os.Remove("/run/postgresql/.s.PGSQL.5432") },
		"root disk":                        func() error { return open("/dev/vda", os.O_RDONLY) },
		"data disk":                        func() error { return open("/dev/vdb", os.O_RDONLY) },
		"config disk with every secret":    func() error { return open("/dev/vdc", os.O_RDONLY) },
		"make the data disk's node":        func() error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 16))) },
		"memory of the machine":            func() error { return open("/dev/mem", os.O_RDONLY) },
		"log of the kernel":                func() error { return open("/dev/kmsg", os.O_WRONLY) },
		"console":                          func() error { return open("/dev/console", os.O_WRONLY) },
		"lift its own limit":               func() error { return write(ownCgroup() + "/memory.max") },
		"another cgroup":                   func() error { return os.Mkdir("/sys/fs/cgroup/mine", 0o755) },
		"settings of the kernel":           func() error { return open("/proc/sys/kernel/core_pattern", os.O_WRONLY) },
		"commands to the kernel":           func() error { return open("/proc/sysrq-trigger", os.O_WRONLY) },
		"BPF program":                      func() error { return call(unix.SYS_BPF, 0, 0, 0) },
		"performance counters":             func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, ^uintptr(0)) },
		"io_uring":                         func() error { return ring() },
		"keys":                             func() error { return result(unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)) },
		"faults in user space":             func() error { return call(unix.SYS_USERFAULTFD, unix.O_NONBLOCK, 0, 0) },
		"kernel module":                    func() error { return known(unix.DeleteModule("none", 0), unix.ENOENT) },
		"reboot":                           func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
		"clock":                            func() error { return unix.Settimeofday(&unix.Timeval{Sec: time.Now().Unix()}) },
		"name of the machine":              func() error { return unix.Sethostname([]byte("mine")) },
		"swap": func() error {
			return known(call(unix.SYS_SWAPON, uintptr(unsafe.Pointer(&[]byte("/none\x00")[0])), 0, 0), unix.ENOENT)
		},
		"another user":              func() error { return unix.Setresuid(12345, 12345, 12345) },
		"own a file of another's":   ownFile,
		"capabilities by a program": func() error { return gain() },
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		return
	}
	switch os.Args[1] {
	case "fork":
		fork()
		return
	case "memory":
		for { // MAP_POPULATE: the kernel allocates every page, which is many times faster in emulation
			if _, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_POPULATE); err != nil {
				panic(err)
			}
		}
	case "flood":
		flood(os.Args[2])
	case "print":
		line := strings.Repeat("noise ", 200)
		for range 2000 {
			fmt.Println(line)
		}
		fmt.Println("printed")
		return
	}
	victim, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	for name, attack := range attacks(victim) {
		err := attack()
		fmt.Printf("%s\t%v\n", name, err)
	}
}

func result[T any](_ T, err error) error { return err }

// known returns nil for an errno that a call returns only after its permission check.
func known(err error, errno unix.Errno) error {
	if errors.Is(err, errno) {
		return nil
	}
	return err
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall6(number, a, b, c, 0, 0, 0); errno != 0 && errno != unix.EINVAL && errno != unix.EFAULT {
		return errno
	}
	return nil
}

func ring() error {
	params := make([]byte, 120) // struct io_uring_params
	_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func open(name string, flags int) error {
	f, err := os.OpenFile(name, flags, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func write(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		f.Close()
	}
	return err
}

func child(flags uintptr) error {
	c := exec.Command("/proc/self/exe", "child")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return c.Run()
}

func setns(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return unix.Setns(fd, 0)
}

func readMemory(pid int) error {
	b := make([]byte, 1)
	local := []unix.Iovec{{Base: &b[0], Len: 1}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}, 0)
	return known(err, unix.EFAULT)
}

func listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return err
}

func linkDown() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// ownCgroup returns the folder of this process's cgroup.
func ownCgroup() string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	return "/sys/fs/cgroup" + strings.TrimPrefix(strings.TrimSpace(string(text)), "0::")
}

func ownFile() error {
	if err := write("/tmp/file"); err != nil {
		return nil
	}
	return os.Chown("/tmp/file", 12345, 12345)
}

// gain returns nil if programs with the set-user-ID bit can gain privileges.
func gain() error {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || n == 1 {
		return errors.New("no new privileges")
	}
	return nil
}

// fork creates processes until the kernel refuses, and prints their number.
func fork() {
	// At the limit, Go's runtime cannot start a thread either, and ends the program if it needs
	// one. It needs none as long as this goroutine only makes raw system calls, since no other
	// goroutine has work to do.
	debug.SetGCPercent(-1)
	running := make([]uintptr, 0, 4096)
	for len(running) < cap(running) {
		pid, _, err := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if err != 0 {
			break
		}
		if pid == 0 { // of Go's threads, this is the only one
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		running = append(running, pid)
	}
	for _, pid := range running {
		unix.RawSyscall(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0)
		unix.RawSyscall6(unix.SYS_WAIT4, pid, 0, 0, 0, 0, 0)
	}
	fmt.Printf("forked\t%d\n", len(running))
}

// flood opens connections to an address for 20 s, and sends nothing.
func flood(address string) {
	var open []net.Conn
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			open = append(open, c)
		}
	}
	fmt.Printf("flooded\t%d\n", len(open))
	os.Exit(0)
}
