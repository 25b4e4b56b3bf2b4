package sntp

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// A Server tells its own clock's time.
type Server struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Trusted reports whether the clock has been set since the computer started; while it has not,
	// the server says so in place of the time. Nil means that it always has.
	Trusted func(time.Time) bool
}

// notBefore is when this was written.
var notBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Plausible reports whether a clock that shows t may have been set since its computer started: one
// without a battery begins in 1970, or when its system was made.
func Plausible(t time.Time) bool { return t.After(notBefore) }

const (
	// localStratum is what servers use that follow a clock without knowing how good it is, so that
	// others are preferred: ntpd's for its "undisciplined local clock".
	localStratum = 10
	// localPrecision and localDispersion say what the answers are good for: about a microsecond to
	// read the clock, and as right as its source makes it, of which 10 ms is a guess.
	localPrecision  = -20
	localDispersion = 10 * time.Millisecond
)

// Serve answers questions that come over conn until ctx is done, and closes conn. It returns nil
// then, and else what kept it from reading. Answers are as long as questions at the most, so an
// attacker gains nothing by having them sent to others.
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
			// A report on an earlier answer, or an interface that went down: neither is the end of
			// the socket.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		if answer := s.answer(question[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from) // a client that is not reached asks again
		}
	}
}

// ServeStream answers questions that come over a stream, each a packet without extension fields,
// until conn ends, and closes it. A client that does not read its answers is not read either.
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

// answer is what a client gets (RFC 4330, section 6), nil for whatever is no question.
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
