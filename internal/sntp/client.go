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

// A Reading is the result of one SNTP exchange.
type Reading struct {
	// Offset is the server's clock minus the local clock.
	Offset time.Duration
	// Delay is the round-trip time. The error of Offset is at most half of it.
	Delay   time.Duration
	Stratum int // 1: the server has a reference clock; each server between adds one
}

// A Client requests the time. The zero value is ready to use.
type Client struct {
	// Now is the local clock. It should return times with a monotonic reading, as time.Now does:
	// the clock may be set during an exchange. Nil means time.Now.
	Now func() time.Time
}

// Ask sends one request and waits for the response until ctx is done. It ignores packets from other
// hosts. A refusal by the server is a *Kiss.
func (c Client) Ask(ctx context.Context, server netip.AddrPort) (Reading, error) {
	r, err := c.ask(ctx, server)
	if err != nil {
		return Reading{}, fmt.Errorf("ask %s for the time: %w", server, err)
	}
	return r, nil
}

func (c Client) ask(ctx context.Context, server netip.AddrPort) (Reading, error) {
	var d net.Dialer
	// On a connected socket the kernel passes only packets from this address and port, and reports
	// a closed port.
	conn, err := d.DialContext(ctx, "udp", server.String())
	if err != nil {
		return Reading{}, err
	}
	defer conn.Close()
	return c.exchange(ctx, conn, conn.Read) // the kernel truncates longer packets
}

// A Stream is a connection to one server that neither loses nor splits writes, such as a port of a
// virtual machine.
type Stream interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// AskOver is Ask over a stream. It ignores late responses to earlier requests.
func (c Client) AskOver(ctx context.Context, s Stream) (Reading, error) {
	return c.exchange(ctx, s, func(answer []byte) (int, error) { return io.ReadFull(s, answer) })
}

// exchange sends a request, and reads packets with receive until one is the response.
func (c Client) exchange(ctx context.Context, conn Stream, receive func([]byte) (int, error)) (Reading, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil { // without deadlines the wait could not be ended
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
		// Only a refusal that repeats the nonce is from the server; others may be forged.
		if p.origin == nonce && !errors.Is(err, errNotOurs) {
			return Reading{}, err
		}
	}
}

// newNonce returns a random number other than 0, which servers send in unsolicited packets.
func newNonce() timestamp {
	var b [8]byte
	rand.Read(b[:])
	return timestamp(binary.BigEndian.Uint64(b[:]) | 1)
}

// reading calculates offset and delay (RFC 4330, section 5) from the local times of sending and
// arrival. It subtracts times, not timestamps, so that it is correct for a local clock in 1970.
func reading(p packet, sent, came time.Time) (Reading, error) {
	there, back := p.receive.time().Sub(sent), p.transmit.time().Sub(came)
	delay := came.Sub(sent) - p.transmit.time().Sub(p.receive.time())
	if delay < -time.Millisecond { // tolerance for clock drift during the exchange
		return Reading{}, errors.New("the server says that it took longer than it did")
	}
	return Reading{Offset: there/2 + back/2, Delay: max(delay, 0), Stratum: int(p.stratum)}, nil
}
