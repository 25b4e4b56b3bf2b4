package crosvm

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// ErrSocketHeld says that a process that lives listens at a control socket.
var ErrSocketHeld = errors.New("a crosvm that runs holds it")

// ClearSocket removes the control socket that a crosvm which was killed has left: the next one
// would end with "Address already in use". One that a process listens at stays, and the error wraps
// ErrSocketHeld; what is no socket stays too.
func ClearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: there is a file of another kind: remove it", path)
	}
	// crosvm listens for connections that keep packets apart (SOCK_SEQPACKET).
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		conn.Close()
		return fmt.Errorf("control socket %s: %w", path, ErrSocketHeld)
	}
	// ECONNREFUSED: no process has it. EPROTOTYPE: one does, with a socket of another type.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s: %w: %w", path, ErrSocketHeld, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale control socket: %w", err)
	}
	return nil
}
