//go:build linux

package endpoint

import (
	"net"
	"testing"
	"time"
)

func TestLimitedListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	limited := &limitedListener{Listener: l, slots: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted while the first is open")
	case <-time.After(20 * time.Millisecond):
	}
	first.Close()
	first.Close() // gives its place back once only
	second := <-accepted
	defer second.Close()
	if len(limited.slots) > 1 {
		t.Errorf("%d places are taken", len(limited.slots))
	}
}
