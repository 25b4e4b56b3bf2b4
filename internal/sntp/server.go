package sntp

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// A Server answers SNTP requests with the time of its clock.
type Server struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Trusted reports whether the clock has been set since the computer started; until then the
	// server answers that it is not synchronized. Nil means always.
	Trusted func(time.Time) bool
}

// notBefore is earlier than any correct clock.
var notBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Plausible reports whether a clock that shows t may have been set since its computer started: one
// without a battery begins in 1970, or when its system was made.
func Plausible(t time.Time) bool { return t.After(notBefore) }

const (
	// localStratum is the stratum of a server whose clock has unknown accuracy, so that others are
	// preferred: that of ntpd's "undisciplined local clock".
	localStratum = 10
	// localPrecision and localDispersion are the accuracy of the responses: about a microsecond to
	// read the clock, and an estimated 10 ms for its source.
	localPrecision  = -20
	localDispersion = 10 * time.Millisecond
)

// Serve answers requests on conn until ctx is done, and closes conn. It returns nil then, and
// otherwise the error of reading. Responses are not longer than requests, so the server cannot be
// used for amplification.
func (s Server) Serve(ctx context.Context, conn net.PacketConn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	question := make([]byte, packetSize)
	for {
		n, from, err := conn.ReadFrom(question)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// ICMP errors for an earlier response, or an interface that went down, do not
			// invalidate the socket.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		if answer := s.answer(question[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from) // the client repeats the request
		}
	}
}

// ServeStream answers requests on a stream, each a packet without extension fields, until conn
// ends, and closes it. It does not read from a client that does not read responses.
func (s Server) ServeStream(conn io.ReadWriteCloser) {
	defer conn.Close()
	question := make([]byte, packetSize)
	for {
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		if answer := s.answer(question); answer != nil {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// answer returns the response to a request (RFC 4330, section 6), nil if it is not a request.
func (s Server) answer(question []byte) []byte {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	received := now()
	q, err := parse(question)
	if err != nil || q.mode != modeClient {
		return nil
	}
	a := packet{
		version: q.version, mode: modeServer, stratum: localStratum, poll: q.poll, precision: localPrecision,
		rootDispersion: shortDuration(localDispersion), reference: [4]byte{127, 127, 1, 0}, // ntpd's name for the local clock
		referenceTime: timestampOf(received), origin: q.transmit, receive: timestampOf(received),
	}
	if s.Trusted != nil && !s.Trusted(received) {
		a.leap, a.stratum, a.reference = leapUnknown, 0, [4]byte([]byte(kissInit))
	}
	a.transmit = timestampOf(now())
	return a.bytes()
}
