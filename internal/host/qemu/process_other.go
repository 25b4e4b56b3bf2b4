//go:build !linux

package qemu

import "syscall"

// attributes keep the terminal's signals from QEMU, so that Ctrl-C is the caller's to handle.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
