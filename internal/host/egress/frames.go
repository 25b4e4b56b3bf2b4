package egress

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// Frames on a stream socket are preceded by their length in four bytes, big-endian, as in QEMU's
// netdev "stream" and passt.
const lengthSize = 4

// maxFrame is the longest frame: an IPv4 packet of 65535 bytes behind an Ethernet header.
const maxFrame = 65535 + ethernetHeader

// Sizes and positions in a frame, in bytes (IEEE 802.3; RFC 791, section 3.1; RFC 826).
const (
	ethernetHeader = 14
	etherType      = 12
	minIPv4        = 20
	arpSize        = 28
)

// Ether types.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
)

// bufferSize holds some frames of the usual size, so that many cross with one system call.
const bufferSize = 256 << 10

// frames reads frames from a stream.
type frames struct {
	from  *bufio.Reader
	frame []byte
}

func newFrames(from io.Reader) *frames {
	return &frames{bufio.NewReaderSize(from, bufferSize), make([]byte, maxFrame)}
}

// next returns the next frame, which is valid until the call after it.
func (f *frames) next() ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(f.from, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	_, err := io.ReadFull(f.from, f.frame[:n])
	return f.frame[:n], err
}

// A sink takes the frames of several senders.
type sink struct {
	mu  sync.Mutex
	out *bufio.Writer
}

func newSink(to io.Writer) *sink { return &sink{out: bufio.NewWriterSize(to, bufferSize)} }

// send writes a frame, at once or with those that follow.
func (s *sink) send(frame []byte, now bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.out.Write(length(frame)) // an error is sticky, and the next call returns it
	_, err := s.out.Write(frame)
	if err == nil && now {
		err = s.out.Flush()
	}
	return err
}

func (s *sink) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Flush()
}

// relay moves frames that pass from a socket to a sink until one of them ends. It returns the read
// error, or nil after a write error.
func relay(to *sink, from net.Conn, passes func(frame []byte) bool) error {
	in := newFrames(from)
	for {
		if in.from.Buffered() == 0 && to.flush() != nil {
			return nil
		}
		frame, err := in.next()
		if err != nil {
			return err
		}
		if passes(frame) && to.send(frame, false) != nil {
			return nil
		}
	}
}

// length returns the length prefix of a frame.
func length(frame []byte) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 0, lengthSize), uint32(len(frame)))
}

// arpRequest returns an ARP request from the guest's card (RFC 826).
func arpRequest(from, who netip.Addr) []byte {
	card, err := net.ParseMAC(HardwareAddress)
	if err != nil {
		panic(err) // a constant
	}
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, card...)
	frame = binary.BigEndian.AppendUint16(frame, typeARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, lengths of their addresses, request
	frame = append(frame, card...)
	frame = append(frame, from.AsSlice()...)
	frame = append(frame, make([]byte, 6)...)
	return append(frame, who.AsSlice()...)
}

func isARPReply(frame []byte) bool {
	return len(frame) >= ethernetHeader+arpSize && binary.BigEndian.Uint16(frame[etherType:]) == typeARP &&
		binary.BigEndian.Uint16(frame[ethernetHeader+6:]) == 2
}
