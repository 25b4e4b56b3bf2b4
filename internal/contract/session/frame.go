package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxPayload bounds the payload of a frame, in bytes: a command line and its environment, or a part
// of a stream.
const MaxPayload = 64 << 10

// headerSize is the length of a frame's kind and length.
const headerSize = 5

// A Kind says what a frame's payload is.
type Kind byte

// Kinds of frames, and who sends them.
const (
	Begin    Kind = 1 // client, once, first: a Start in JSON
	Input    Kind = 2 // client: bytes of standard input
	InputEnd Kind = 3 // client: standard input has ended
	Resize   Kind = 4 // client: a Size in JSON
	Output   Kind = 5 // guest: bytes of standard output, or of the terminal
	Errors   Kind = 6 // guest: bytes of standard error
	End      Kind = 7 // guest, last: an Exit in JSON
	Alive    Kind = 8 // both: nothing
)

// A Frame is one message.
type Frame struct {
	Kind    Kind
	Payload []byte
}

// ErrFrame is wrapped by the errors about bytes that are not a frame.
var ErrFrame = errors.New("not a frame of a session")

// append adds a frame to b.
func (f Frame) append(b []byte) []byte {
	b = append(b, byte(f.Kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	return append(b, f.Payload...)
}

// readFrame reads one frame. The error is io.EOF where nothing follows.
func readFrame(r io.Reader) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: Kind(header[0])}
	n := binary.BigEndian.Uint32(header[1:])
	switch {
	case f.Kind < Begin || f.Kind > Alive:
		return Frame{}, fmt.Errorf("%w: kind %d", ErrFrame, f.Kind)
	case n > MaxPayload:
		return Frame{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrFrame, n, MaxPayload)
	}
	f.Payload = make([]byte, n)
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}
