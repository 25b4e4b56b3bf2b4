//go:build linux

package guest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// signalName is the name of s, such as SIGTERM.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
