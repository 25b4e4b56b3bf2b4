package sntp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// A Reading is what a server said of the time.
type Reading struct {
	// Offset is what is to be added to the local clock to make it the server's.
	Offset time.Duration
	// Delay is the time on the way, there and back: Offset is wrong by at most half of it.
	Delay   time.Duration
	Stratum int // 1: the server has a clock of its own; each server between adds one
}

// A Client asks for the time. The zero value is fine.
type Client struct {
	// Now is the local clock. What it returns should have a monotonic reading, as time.Now's does:
	// the clock may be set while an answer is on its way. Nil means time.Now.
	Now func() time.Time
}

// Ask asks the server once and waits for its answer until ctx is done. What others send meanwhile
// changes nothing. A server that refuses is a *Kiss.
func (c Client) Ask(ctx context.Context, server netip.AddrPort) (Reading, error) {
	r, err := c.ask(ctx, server)
	if err != nil {
		return Reading{}, fmt.Errorf("ask %s for the time: %w", server, err)
	}
	return r, nil
}

func (c Client) ask(ctx context.Context, server netip.AddrPort) (Reading, error) {
	var d net.Dialer
	// Connected: the kernel hands on what comes from this address and port only, and tells of a
	// port that is closed.
	conn, err := d.DialContext(ctx, "udp", server.String())
	if err != nil {
		return Reading{}, err
	}
	defer conn.Close()
	return c.exchange(ctx, conn, conn.Read) // what is longer than a packet is cut off by the kernel
}

// A Stream leads to one server and neither loses nor divides what is written at once: a port of a
// virtual machine.
type Stream interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// AskOver asks the server at the other end of a stream once, as Ask does. Late answers to earlier
// questions change nothing.
func (c Client) AskOver(ctx context.Context, s Stream) (Reading, error) {
	return c.exchange(ctx, s, func(answer []byte) (int, error) { return io.ReadFull(s, answer) })
}

// exchange asks, and takes answers from receive until one fits.
func (c Client) exchange(ctx context.Context, conn Stream, receive func([]byte) (int, error)) (Reading, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil { // without one, nothing would end the wait
		return Reading{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	now := c.Now
	if now == nil {
		now = time.Now
	}
	nonce := newNonce()
	sent := now()
	if _, err := conn.Write(packet{version: version, mode: modeClient, transmit: nonce}.bytes()); err != nil {
		return Reading{}, err
	}
	answer := make([]byte, packetSize)
	for {
		n, err := receive(answer)
		if ctx.Err() != nil {
			return Reading{}, errors.New("no answer in time")
		}
		if err != nil {
			return Reading{}, err
		}
		came := sent.Add(now().Sub(sent))
		p, err := parse(answer[:n])
		if err == nil {
			err = p.check(nonce)
		}
		if err == nil {
			return reading(p, sent, came)
		}
		// A refusal that repeats the nonce is the server's; another may come from any host.
		if p.origin == nonce && !errors.Is(err, errNotOurs) {
			return Reading{}, err
		}
	}
}

// newNonce is never 0, which servers repeat without having been asked.
func newNonce() timestamp {
	var b [8]byte
	rand.Read(b[:])
	return timestamp(binary.BigEndian.Uint64(b[:]) | 1)
}

// reading works out offset and delay (RFC 4330, section 5) with local times of sending and arrival.
// Differences are of times, not timestamps, so that a local clock in 1970 is as good as any.
func reading(p packet, sent, came time.Time) (Reading, error) {
	there, back := p.receive.time().Sub(sent), p.transmit.time().Sub(came)
	delay := came.Sub(sent) - p.transmit.time().Sub(p.receive.time())
	if delay < -time.Millisecond { // what two clocks that tick apart within one exchange may make
		return Reading{}, errors.New("the server says that it took longer than it did")
	}
	return Reading{Offset: there/2 + back/2, Delay: max(delay, 0), Stratum: int(p.stratum)}, nil
}
