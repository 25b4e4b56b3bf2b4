package androidtest

import (
	"net"
	"sync"
	"time"
)

// faults simulates faults of the link between an adb server and the phone.
type faults struct {
	mu      sync.Mutex
	changed *sync.Cond
	conns   map[*faultyConn]bool
	left    int64 // bytes until the link is cut; negative: unlimited
	stalled bool
	rate    int64 // bytes a second; 0: unlimited
	passed  int64 // bytes in both directions
}

func (f *faults) init() {
	f.changed = sync.NewCond(&f.mu)
	f.conns = map[*faultyConn]bool{}
	f.left = -1
}

// CutAfter cuts the connections after n more bytes in either direction. The next connection is not
// affected.
func (a *ADB) CutAfter(n int64) {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	a.faults.left = n
}

// Cut cuts the connections immediately, like an unplugged cable.
func (a *ADB) Cut() { a.faults.cut() }

// Stall blocks all traffic until Resume. The connections stay open.
func (a *ADB) Stall() { a.faults.stall(true) }

// Resume ends a stall.
func (a *ADB) Resume() { a.faults.stall(false) }

// SlowDown limits the link's rate in bytes per second; 0: unlimited.
func (a *ADB) SlowDown(bytesPerSecond int64) {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	a.faults.rate = bytesPerSecond
}

// Passed returns the number of bytes transferred in both directions.
func (a *ADB) Passed() int64 {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	return a.faults.passed
}

func (f *faults) stall(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stalled = on
	f.changed.Broadcast()
}

func (f *faults) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutLocked()
}

func (f *faults) cutLocked() {
	f.left = -1
	for c := range f.conns {
		c.closed = true
		c.Conn.Close()
	}
	clear(f.conns)
	f.changed.Broadcast()
}

// A faultyConn is a connection with faults.
type faultyConn struct {
	net.Conn
	f      *faults
	closed bool
}

func (f *faults) wrap(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // a cut cable loses unsent data
	}
	c := &faultyConn{Conn: conn, f: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return c
}

// pass waits until bytes may pass, and returns how many of n may.
func (c *faultyConn) pass(n int) (int, error) {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.stalled && !c.closed {
		f.changed.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	if f.left >= 0 {
		n = int(min(int64(n), f.left))
	}
	if n == 0 {
		f.cutLocked()
		return 0, net.ErrClosed
	}
	if f.rate > 0 {
		n = min(n, max(1, int(f.rate/20)))
		f.mu.Unlock()
		time.Sleep(time.Duration(n) * time.Second / time.Duration(f.rate)) // the simulated delay, not a wait for an event
		f.mu.Lock()
	}
	if f.left >= 0 {
		f.left = max(0, f.left-int64(n))
	}
	f.passed += int64(n)
	return n, nil
}

// Read implements net.Conn. It delays received data until the faults let it pass.
func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 16<<10)])
	for passed := 0; passed < n; {
		m, err := c.pass(n - passed)
		if err != nil {
			return passed, err
		}
		passed += m
	}
	return n, err
}

// Write implements net.Conn.
func (c *faultyConn) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n, err := c.pass(len(p) - sent)
		if err != nil {
			return sent, err
		}
		n, err = c.Conn.Write(p[sent : sent+n])
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return len(p), nil
}

// Close implements net.Conn.
func (c *faultyConn) Close() error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.closed = true
	delete(c.f.conns, c)
	c.f.changed.Broadcast()
	return c.Conn.Close()
}
