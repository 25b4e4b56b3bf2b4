package egress

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// The SYN of a forwarded connection that the guest does not answer is repeated every offerInterval,
// offers times in total, and then refused on behalf of the guest. passt itself sends it only once,
// and the client would wait ten seconds, for example before the guest has started or if its
// firewall drops the connection.
const (
	offerInterval = time.Second
	offers        = 5
)

// unanswered tracks the forwarded connections that the guest has not answered yet. passt limits
// their number.
type unanswered struct {
	toGuest, toPasst *sink

	mu     sync.Mutex
	offers map[flow]*offer
}

// An offer is the SYN of a connection, and the timer that repeats it.
type offer struct {
	frame []byte
	timer *time.Timer
}

// A flow is a connection by its ends.
type flow struct{ client, guest netip.AddrPort }

// offered records a frame of passt that begins a connection. It returns true.
func (u *unanswered) offered(frame []byte) bool {
	if f, flags, ok := flowOf(frame); ok && flags&(flagSYN|flagACK) == flagSYN {
		u.await(f, append([]byte(nil), frame...), 1)
	}
	return true
}

// answered handles a frame of the guest and reports whether to pass it to passt. While a connection
// is offered, only the answer passes: other segments belong to an earlier connection between the
// same ports. passt would take them for an answer, drop the connection, and, in the version of
// Debian 12, divide by zero when the answer arrives too. The guest gets a reset for the earlier
// connection, as RFC 9293, section 3.10.7.3, requires in the state SYN-SENT.
func (u *unanswered) answered(frame []byte) bool {
	f, flags, ok := flowOf(frame)
	if !ok {
		return true
	}
	f.client, f.guest = f.guest, f.client
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.offers[f]
	if o == nil {
		return true
	}
	answer := tcp(frame)
	if accepted := sequence(tcp(o.frame)) + 1; flags&flagACK == 0 || acknowledgment(answer) != accepted || flags&(flagSYN|flagRST) == 0 {
		if flags&flagRST == 0 {
			_ = u.toGuest.send(reply(frame, flagRST, acknowledgment(answer), 0), true) // an error ends the relay
		}
		return false
	}
	o.timer.Stop()
	delete(u.offers, f)
	return true
}

// await waits for the answer to the nth offer of a connection.
func (u *unanswered) await(f flow, frame []byte, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.offers == nil {
		u.offers = make(map[flow]*offer)
	}
	if earlier := u.offers[f]; earlier != nil {
		earlier.timer.Stop()
	}
	o := &offer{frame: frame}
	o.timer = time.AfterFunc(offerInterval, func() {
		u.mu.Lock()
		current := u.offers[f] == o
		if current {
			delete(u.offers, f)
		}
		u.mu.Unlock()
		switch {
		case !current:
		case n < offers:
			u.await(f, frame, n+1)
			_ = u.toGuest.send(frame, true) // an error ends the relay
		default:
			_ = u.toPasst.send(reply(frame, flagRST|flagACK, 0, sequence(tcp(frame))+1), true)
		}
	})
	u.offers[f] = o
}

// Sizes and positions in an IPv4 packet and a TCP segment, in bytes (RFC 791, section 3.1; RFC
// 9293, section 3.1).
const (
	minTCP  = 20
	flagRST = 0x04
)

// flowOf returns the connection of a frame, and its flags.
func flowOf(frame []byte) (f flow, flags byte, ok bool) {
	if len(frame) < ethernetHeader+minIPv4 || binary.BigEndian.Uint16(frame[etherType:]) != typeIPv4 {
		return f, 0, false
	}
	packet := frame[ethernetHeader:]
	header := int(packet[0]&0xf) * 4
	if packet[0]>>4 != 4 || packet[9] != protocolTCP || header < minIPv4 || len(packet) < header+minTCP {
		return f, 0, false
	}
	segment := tcp(frame)
	f.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(segment))
	f.guest = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[16:20])), binary.BigEndian.Uint16(segment[2:]))
	return f, segment[13], true
}

// tcp returns the segment of a frame that flowOf knows.
func tcp(frame []byte) []byte {
	packet := frame[ethernetHeader:]
	return packet[int(packet[0]&0xf)*4:]
}

func sequence(segment []byte) uint32       { return binary.BigEndian.Uint32(segment[4:]) }
func acknowledgment(segment []byte) uint32 { return binary.BigEndian.Uint32(segment[8:]) }

// reply is a segment without data from the end that a frame is sent to, back to its sender.
func reply(to []byte, flags byte, sequence, acknowledgment uint32) []byte {
	frame := append(append([]byte(nil), to[6:12]...), to[:6]...)
	frame = binary.BigEndian.AppendUint16(frame, typeIPv4)

	theirs := to[ethernetHeader:]
	packet := []byte{4<<4 | minIPv4/4, 0, 0, minIPv4 + minTCP, 0, 0, 0, 0, 64, protocolTCP, 0, 0}
	packet = append(append(packet, theirs[16:20]...), theirs[12:16]...)
	binary.BigEndian.PutUint16(packet[10:], ^sum(packet))

	segment := append(append([]byte(nil), tcp(to)[2:4]...), tcp(to)[:2]...)
	segment = binary.BigEndian.AppendUint32(segment, sequence)
	segment = binary.BigEndian.AppendUint32(segment, acknowledgment)
	segment = append(segment, minTCP/4<<4, flags, 0, 0, 0, 0, 0, 0)
	pseudo := append(append([]byte(nil), packet[12:20]...), 0, protocolTCP, 0, minTCP)
	binary.BigEndian.PutUint16(segment[16:], ^sum(append(pseudo, segment...)))
	return append(append(frame, packet...), segment...)
}

// sum is the one's complement sum of 16-bit words (RFC 1071) of an even number of bytes.
func sum(b []byte) uint16 {
	var total uint32
	for i := 0; i < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
