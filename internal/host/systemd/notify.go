// Package systemd is what sov knows of service managers: the protocol by which a service says that
// it is ready (sd_notify(3)), which `sov run --detach` speaks with itself, and the unit that runs a
// machine.
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

// Status is the message that tells a line for people.
func Status(line string) string { return status + strings.ReplaceAll(line, "\n", " ") }

// Notify sends messages to the service manager at a socket; with an empty one there is none.
func Notify(socket string, messages ...string) error {
	if socket == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(socket, "@"); ok {
		socket = "\x00" + name // of the abstract name space
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

// A Listener is a service manager's end.
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

// Socket is what Notify takes.
func (l *Listener) Socket() string { return filepath.Join(l.dir, "socket") }

// Close ends Wait.
func (l *Listener) Close() error { return errors.Join(l.conn.Close(), os.RemoveAll(l.dir)) }

// Wait returns once the service is ready, and calls said with what it tells meanwhile. It ends with
// ctx, whose cause is the error then.
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
