package egress

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// TestUnanswered: a connection that the guest does not answer is retried and then refused. passt
// continues to run.
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
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
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

// TestEarlierConnection: a late segment of an earlier connection between the same ports arrives
// with the answer to the next connection, which still succeeds. passt of Debian 12 crashes on these
// two segments.
func TestEarlierConnection(t *testing.T) {
	n, card := startPasst(t, testOptions())
	card.SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n.Port(qemu.Forward{Guest: 5432})).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frames := newFrames(card)
	next := func(flags byte) []byte {
		for {
			frame, err := frames.next()
			if err != nil {
				t.Fatalf("no segment with the flags %#x: %v", flags, err)
			}
			if _, got, ok := flowOf(frame); ok && got&^0x08 == flags { // PSH is ignored
				return append([]byte(nil), frame...)
			}
		}
	}
	offer := next(flagSYN)
	stale := reply(offer, flagACK, 7, 4711)
	answer := reply(offer, flagSYN|flagACK, 1000, sequence(tcp(offer))+1)
	tcp(answer)[14] = 0xff // a window; passt does not check the checksum
	both := append(append(append(length(stale), stale...), length(answer)...), answer...)
	if _, err := card.Write(both); err != nil {
		t.Fatal(err)
	}
	if reset := tcp(next(flagRST)); sequence(reset) != 4711 {
		t.Errorf("the earlier connection is reset at %d, want 4711", sequence(reset))
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	for !bytes.HasSuffix(next(flagACK), []byte("hello")) {
	}
}
