package qemu

import "syscall"

// attributes keep the terminal's signals from QEMU, so that Ctrl-C is the caller's to handle, and
// end it with its parent, however that dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
