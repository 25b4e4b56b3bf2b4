package egress

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// A forwarded connection that the guest does not answer is offered again every offerInterval, offers times in all, and then
// refused in the guest's name: passt itself offers it only once, and the client would wait ten seconds for nothing, as
// before the guest has started and where its firewall drops the connection.
const (
	offerInterval = time.Second
	offers        = 5
)

// unanswered are the forwarded connections that the guest has not answered yet. passt bounds how many there are.
type unanswered struct {
	toGuest, toPasst *sink

	mu     sync.Mutex
	offers map[flow]*time.Timer
}

// A flow is a connection by its ends.
type flow struct{ client, guest netip.AddrPort }

// offered notices a frame of passt that begins a connection. It returns true.
func (u *unanswered) offered(frame []byte) bool {
	if f, flags, ok := flowOf(frame); ok && flags&(flagSYN|flagACK) == flagSYN {
		u.await(f, append([]byte(nil), frame...), 1)
	}
	return true
}

// answered notices any frame of the guest that is of a connection.
func (u *unanswered) answered(frame []byte) {
	f, _, ok := flowOf(frame)
	if !ok {
		return
	}
	f.client, f.guest = f.guest, f.client
	u.mu.Lock()
	defer u.mu.Unlock()
	if timer := u.offers[f]; timer != nil {
		timer.Stop()
		delete(u.offers, f)
	}
}

// await waits for the answer to the nth offer of a connection.
func (u *unanswered) await(f flow, offer []byte, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.offers == nil {
		u.offers = make(map[flow]*time.Timer)
	}
	if timer := u.offers[f]; timer != nil {
		timer.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(offerInterval, func() {
		u.mu.Lock()
		current := u.offers[f] == timer
		if current {
			delete(u.offers, f)
		}
		u.mu.Unlock()
		switch {
		case !current:
		case n < offers:
			u.await(f, offer, n+1)
			_ = u.toGuest.send(offer, true) // an error ends the relay
		default:
			_ = u.toPasst.send(refusal(offer), true)
		}
	})
	u.offers[f] = timer
}

// Sizes and positions in an IPv4 packet and a TCP segment, in bytes (RFC 791, section 3.1; RFC 9293, section 3.1).
const (
	minTCP  = 20
	flagRST = 0x04
)

// flowOf returns the connection that a frame is of, and its flags.
func flowOf(frame []byte) (f flow, flags byte, ok bool) {
	if len(frame) < ethernetHeader+minIPv4 || binary.BigEndian.Uint16(frame[etherType:]) != typeIPv4 {
		return f, 0, false
	}
	packet := frame[ethernetHeader:]
	header := int(packet[0]&0xf) * 4
	if packet[0]>>4 != 4 || packet[9] != protocolTCP || header < minIPv4 || len(packet) < header+minTCP {
		return f, 0, false
	}
	segment := packet[header:]
	f.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(segment))
	f.guest = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[16:20])), binary.BigEndian.Uint16(segment[2:]))
	return f, segment[13], true
}

// refusal is a guest's answer to a frame that begins a connection, at a port where nothing listens.
func refusal(offer []byte) []byte {
	offered := offer[ethernetHeader:]
	segment := offered[int(offered[0]&0xf)*4:]
	frame := append(append([]byte(nil), offer[6:12]...), offer[:6]...)
	frame = binary.BigEndian.AppendUint16(frame, typeIPv4)

	packet := []byte{4<<4 | minIPv4/4, 0, 0, minIPv4 + minTCP, 0, 0, 0, 0, 64, protocolTCP, 0, 0}
	packet = append(append(packet, offered[16:20]...), offered[12:16]...)
	binary.BigEndian.PutUint16(packet[10:], ^sum(packet))

	tcp := append(append([]byte(nil), segment[2:4]...), segment[:2]...)
	tcp = append(tcp, 0, 0, 0, 0)
	tcp = binary.BigEndian.AppendUint32(tcp, binary.BigEndian.Uint32(segment[4:])+1)
	tcp = append(tcp, minTCP/4<<4, flagRST|flagACK, 0, 0, 0, 0, 0, 0)
	pseudo := append(append([]byte(nil), packet[12:20]...), 0, protocolTCP, 0, minTCP)
	binary.BigEndian.PutUint16(tcp[16:], ^sum(append(pseudo, tcp...)))
	return append(append(frame, packet...), tcp...)
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
