// Package systemd implements the readiness protocol of service managers (sd_notify(3)), which `sov
// run --detach` also uses with its own background process, and makes the unit that runs a machine.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// SocketVariable names the service manager's socket in a service's environment.
const SocketVariable = "NOTIFY_SOCKET"

// Messages of a service.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	status   = "STATUS="
)

// Status returns the message that sets the status line.
func Status(line string) string { return status + strings.ReplaceAll(line, "\n", " ") }

// Notify sends messages to the service manager at a socket. With an empty socket it does nothing.
func Notify(socket string, messages ...string) error {
	if socket == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(socket, "@"); ok {
		socket = "\x00" + name // in the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(messages, "\n"))); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// A Listener is the service manager's side of the protocol.
type Listener struct {
	conn *net.UnixConn
	dir  string
}

// Listen makes a socket that only this user can write to.
func Listen() (*Listener, error) {
	dir, err := os.MkdirTemp("", "sov-notify-")
	if err != nil {
		return nil, err
	}
	l := &Listener{dir: dir}
	if l.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.Socket(), Net: "unixgram"}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return l, nil
}

// Socket returns the socket's path, for Notify.
func (l *Listener) Socket() string { return filepath.Join(l.dir, "socket") }

// Close closes the socket and removes it.
func (l *Listener) Close() error { return errors.Join(l.conn.Close(), os.RemoveAll(l.dir)) }

// Wait returns once the service is ready, and calls said with each status line until then. If ctx
// ends, it returns the cause.
func (l *Listener) Wait(ctx context.Context, said func(line string)) error {
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	buffer := make([]byte, 8192)
	for {
		n, err := l.conn.Read(buffer)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(buffer[:n]), "\n") {
			if text, ok := strings.CutPrefix(line, status); ok {
				said(text)
			}
			if line == Ready {
				return nil
			}
		}
	}
}
