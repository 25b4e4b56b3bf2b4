//go:build !linux

package qemu

import "syscall"

// attributes put QEMU in its own process group, so that only the caller gets the terminal's
// signals.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
