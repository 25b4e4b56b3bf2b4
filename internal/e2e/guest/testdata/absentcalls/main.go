// absentcalls makes system calls that the guest's kernel has no code for. It names those that
// answer anything but ENOSYS, else it says that they are absent.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	present := false
	for name, number := range map[string]uintptr{
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
		"process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
		"bpf": unix.SYS_BPF, "userfaultfd": unix.SYS_USERFAULTFD, "kexec_load": unix.SYS_KEXEC_LOAD, "init_module": unix.SYS_INIT_MODULE,
		"add_key": unix.SYS_ADD_KEY,
	} {
		if _, _, err := unix.Syscall6(number, 0, 0, 0, 0, 0, 0); err != unix.ENOSYS {
			fmt.Printf("%s: %v\n", name, err)
			present = true
		}
	}
	if present {
		os.Exit(1)
	}
	fmt.Println("absent")
}
