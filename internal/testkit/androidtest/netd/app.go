package netd

import (
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Dialer connects like an app's process: the sockets belong to its user and carry the mark that
// netd sets.
type Dialer struct {
	UID     int
	Mark    int
	Device  string        // interface to bind the socket to; empty: none
	Timeout time.Duration // 0: none
}

// Dial connects. Meanwhile it changes the file system user of the calling thread.
func (d Dialer) Dial(network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if d.UID != 0 {
		// A socket belongs to the file system user of its creator (net/socket.c, sock_alloc;
		// xt_owner.c).
		if err := unix.Setfsuid(d.UID); err != nil {
			return nil, err
		}
		defer unix.Setfsuid(0)
	}
	dialer := net.Dialer{Timeout: d.Timeout, FallbackDelay: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		failure := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, d.Mark)
			if err == nil && d.Device != "" {
				err = unix.BindToDevice(int(fd), d.Device)
			}
		})
		if failure != nil {
			return failure
		}
		return err
	}}
	return dialer.Dial(network, address)
}

// EchoPort is the port at which the internet's server answers with the client's address as it sees
// it, see [Netd.ServeAddress].
const EchoPort = 9

// ServeAddress makes the internet's server send each client the address from which it connects, at
// [EchoPort] of both families.
func (n *Netd) ServeAddress() {
	n.t.Helper()
	var l net.Listener
	err := InNetwork(n.o.Internet.PID, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(EchoPort)))
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			io.WriteString(conn, strings.TrimPrefix(host, "::ffff:")+"\n")
			conn.Close()
		}
	}()
}

// SeenAs connects from a process's network to an address of the server that ServeAddress started,
// and returns the client's address as the server sees it.
func (d Dialer) SeenAs(pid int, server string) (address string, err error) {
	err = InNetwork(pid, func() error {
		conn, err := d.Dial("tcp", net.JoinHostPort(server, strconv.Itoa(EchoPort)))
		if err != nil {
			return err
		}
		defer conn.Close()
		if d.Timeout > 0 {
			conn.SetDeadline(time.Now().Add(d.Timeout))
		}
		text, err := io.ReadAll(conn)
		address = strings.TrimSpace(string(text))
		return err
	})
	return address, err
}

// App returns the dialer of an app that has not chosen a network.
func (n *Netd) App(uid int) Dialer { return Dialer{UID: uid, Mark: n.Mark(uid), Timeout: patience} }

// patience bounds the wait for an answer. A simulated network answers immediately or never.
const patience = 5 * time.Second
