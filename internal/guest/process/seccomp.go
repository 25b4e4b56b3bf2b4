//go:build linux

package process

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// deniedCalls are system calls that services do not need: they change the machine, or expose large
// parts of the kernel to an attacker. A service with the capability that the kernel requires for a
// group may use it; "" means that no service may.
var deniedCalls = []struct {
	capability string
	errno      unix.Errno
	numbers    []uint32
}{
	{"sys_admin", unix.EPERM, []uint32{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN,
		unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL,
	}},
	{"sys_ptrace", unix.EPERM, []uint32{unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP}},
	{"sys_module", unix.EPERM, []uint32{unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE}},
	{"sys_boot", unix.EPERM, []uint32{unix.SYS_REBOOT, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD}},
	{"sys_time", unix.EPERM, []uint32{unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME}},
	{"sys_pacct", unix.EPERM, []uint32{unix.SYS_ACCT}},
	{"syslog", unix.EPERM, []uint32{unix.SYS_SYSLOG}},
	{"bpf", unix.EPERM, []uint32{unix.SYS_BPF}},
	{"perfmon", unix.EPERM, []uint32{unix.SYS_PERF_EVENT_OPEN}},
	{"dac_read_search", unix.EPERM, []uint32{unix.SYS_OPEN_BY_HANDLE_AT}},
	{"", unix.EPERM, []uint32{unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_USERFAULTFD}},
	// ENOSYS, as on a kernel without io_uring, so that programs use their fallback.
	{"", unix.ENOSYS, []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}},
}

// signalCalls send a signal to the process that their first argument names. sov-init shuts down on
// SIGTERM, and a service that runs as root could signal other processes of root.
var signalCalls = []uint32{
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_OPEN,
}

// namespaces are the flags of clone(2), its first argument, that make namespaces.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// architectures are the values of seccomp_data.arch (include/uapi/linux/audit.h) by GOARCH.
var architectures = map[string]uint32{"arm64": unix.AUDIT_ARCH_AARCH64, "amd64": unix.AUDIT_ARCH_X86_64}

// Offsets of struct seccomp_data (include/uapi/linux/seccomp.h), little-endian.
const (
	offsetCall     = 0
	offsetArch     = 4
	offsetArgument = 16 // the lower half of the first argument
)

// callFilter returns the BPF program that filters the system calls of a process with these
// capabilities.
func callFilter(capabilities []string) []bpf.Instruction {
	deny := func(e unix.Errno) bpf.Instruction { return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(e)} }
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: architectures[runtime.GOARCH], SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: offsetCall, Size: 4},
	}
	for _, group := range deniedCalls {
		if slices.Contains(capabilities, group.capability) {
			continue
		}
		for _, call := range group.numbers {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1}, deny(group.errno))
		}
	}
	if !slices.Contains(capabilities, "sys_admin") {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE, SkipTrue: 4},
			bpf.LoadAbsolute{Off: offsetArgument, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: namespaces, SkipTrue: 1},
			deny(unix.EPERM),
			bpf.LoadAbsolute{Off: offsetCall, Size: 4},
			// A filter cannot read the flags of clone3, which are in memory; programs fall back to
			// clone.
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE3, SkipTrue: 1},
			deny(unix.ENOSYS),
		)
	}
	for i, call := range signalCalls {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: call, SkipTrue: uint8(len(signalCalls) - i)})
	}
	return append(program,
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
		bpf.LoadAbsolute{Off: offsetArgument, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 1, SkipTrue: 1},
		deny(unix.EPERM),
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	)
}

// filterCalls installs the filter for this thread and the program that it executes.
func filterCalls(capabilities []string) error {
	raw, err := bpf.Assemble(callFilter(capabilities))
	if err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}
