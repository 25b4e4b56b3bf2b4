package egress

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// TestUnanswered: a connection that the guest does not answer is offered again, and then refused; passt lives on.
func TestUnanswered(t *testing.T) {
	n, card := startPasst(t, testOptions())
	card.SetDeadline(time.Now().Add(time.Minute))
	seen := make(chan int)
	go func() {
		count := 0
		defer func() { seen <- count }()
		for frames := newFrames(card); ; {
			frame, err := frames.next()
			if err != nil {
				return
			}
			if _, flags, ok := flowOf(frame); ok && flags == flagSYN {
				count++
			}
		}
	}()
	conn, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n.Port(qemu.Forward{Guest: 5432})).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a guest that is silent answers")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the connection is not refused")
	}
	select {
	case <-n.Lost():
		t.Fatalf("passt has ended: %v", n.Err())
	default:
	}
	card.Close()
	if count := <-seen; count != offers {
		t.Errorf("the connection is offered %d times, want %d", count, offers)
	}
}
