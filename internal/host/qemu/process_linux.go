package qemu

import "syscall"

// attributes put QEMU in its own process group, so that only the caller gets the terminal's
// signals, and kill it when its parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
