//go:build linux

package endpoint

import (
	"context"
	"net"
	"slices"
	"sync"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A doorListener limits the number of connections. A new unauthenticated connection beyond the
// limit closes the oldest one. Connections from privileged ports, which only root on the host can
// use, are counted separately, so that other users of the host cannot lock root out. Authenticated
// connections beyond their limit wait until another one ends.
type doorListener struct {
	net.Listener
	waiting int // limit of unauthenticated connections of each kind
	slots   chan struct{}

	mu       sync.Mutex
	unproven []*doorConn // oldest first
}

func newDoorListener(l net.Listener, waiting, proven int) *doorListener {
	return &doorListener{Listener: l, waiting: waiting, slots: make(chan struct{}, proven)}
}

// Accept implements net.Listener.
func (l *doorListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &doorConn{Conn: c, door: l}
	if address, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		conn.privileged = address.Port < guestapi.FirstUnprivileged
	}
	if oldest := l.enter(conn); oldest != nil {
		oldest.Conn.Close()
	}
	return conn, nil
}

// enter adds an unauthenticated connection, and returns the one that must be closed for it, or nil.
func (l *doorListener) enter(c *doorConn) (oldest *doorConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same, first := 0, -1
	for i, other := range l.unproven {
		if other.privileged != c.privileged {
			continue
		}
		if same++; first < 0 {
			first = i
		}
	}
	if same >= l.waiting {
		oldest = l.unproven[first]
		l.unproven = slices.Delete(l.unproven, first, first+1)
	}
	l.unproven = append(l.unproven, c)
	return oldest
}

// leave removes a connection from the unauthenticated ones, and reports whether it was among them.
func (l *doorListener) leave(c *doorConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.unproven, c)
	if i >= 0 {
		l.unproven = slices.Delete(l.unproven, i, i+1)
	}
	return i >= 0
}

// A doorConn is a connection of a doorListener.
type doorConn struct {
	net.Conn
	door       *doorListener
	privileged bool // from a port that only root may use

	mu     sync.Mutex
	proven bool // it has a slot
	closed bool
}

// prove marks the connection as authenticated. It waits for a slot until ctx is done, and reports
// whether the connection may continue.
func (c *doorConn) prove(ctx context.Context) bool {
	c.mu.Lock()
	proven := c.proven
	c.mu.Unlock()
	if proven {
		return true
	}
	if !c.door.leave(c) {
		return false // it was closed for a newer one
	}
	select {
	case c.door.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.door.slots
		return false
	}
	c.proven = true
	return true
}

// Close implements net.Conn.
func (c *doorConn) Close() error {
	c.door.leave(c)
	c.mu.Lock()
	if c.proven && !c.closed {
		<-c.door.slots
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// doorKey is the context key of a request's connection.
type doorKey struct{}

// withConn is an http.Server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, doorKey{}, c)
}

// prove reports whether the connection of an authenticated request may continue.
func prove(ctx context.Context) bool {
	c, ok := ctx.Value(doorKey{}).(*doorConn)
	return !ok || c.prove(ctx) // tests call handlers without a connection
}
