package crosvm

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// ErrSocketHeld says that a running process listens on a control socket.
var ErrSocketHeld = errors.New("a crosvm that runs holds it")

// ClearSocket removes the control socket of a killed crosvm; the next crosvm would fail with
// "Address already in use". If a process listens on the socket, it stays and the error wraps
// ErrSocketHeld. A file that is not a socket also stays.
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
	// crosvm's socket has the type SOCK_SEQPACKET.
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		conn.Close()
		return fmt.Errorf("control socket %s: %w", path, ErrSocketHeld)
	}
	// ECONNREFUSED: no process listens. EPROTOTYPE: one does, with another socket type.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s: %w: %w", path, ErrSocketHeld, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale control socket: %w", err)
	}
	return nil
}
