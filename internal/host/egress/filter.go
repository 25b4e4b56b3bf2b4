package egress

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// A filter decides which frames of the guest reach passt. It does not keep state of connections, so
// a guest cannot exhaust it.
type filter struct {
	host, dns netip.Addr
	published map[qemu.Forward]bool // ports of the guest to which connections are forwarded, by Forward.Asked
	// askers has a bit for each UDP port of the host from which a packet has come to a published
	// port. The guest may answer those.
	askers [1 << 16 / 32]atomic.Uint32
	never  []netip.Prefix
	own    func() map[netip.Addr]bool // nil: the guest may reach this computer's addresses
}

// nowhere are destinations that guests may never send to: this computer's loopback, also through
// 0.0.0.0 (ip(7)), link-local networks, with 169.254.169.254, multicast, and reserved addresses.
var nowhere = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func newFilter(o Options) *filter {
	f := &filter{host: o.Host, dns: o.DNS, published: make(map[qemu.Forward]bool), never: nowhere}
	// passt would forward packets for the guest's own subnet to this computer's network if that has
	// the same addresses.
	f.never = append(f.never[:len(f.never):len(f.never)], o.Guest.Masked())
	if !o.LAN {
		f.never = append(f.never, prefixes(vmspec.PrivateNetworks...)...)
	}
	if !o.Self {
		f.own = (&ownAddresses{}).get
	}
	for _, forward := range o.Forward {
		f.published[forward.Asked()] = true
	}
	return f
}

// IP protocols, the port of DNS, and flags of TCP (RFC 9293, section 3.1).
const (
	protocolTCP = 6
	protocolUDP = 17
	portDNS     = 53
	flagSYN     = 0x02
	flagACK     = 0x10
)

// passes reports whether a frame of the guest reaches passt.
func (f *filter) passes(frame []byte) bool {
	if len(frame) < ethernetHeader {
		return false
	}
	packet := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[etherType:]) {
	case typeARP:
		return true
	case typeIPv4:
		return len(packet) >= minIPv4 && f.passesIPv4(packet)
	}
	return false
}

// passesIPv4 reports whether a packet does (RFC 791, section 3.1).
func (f *filter) passesIPv4(packet []byte) bool {
	if packet[0]>>4 != 4 {
		return false
	}
	to := netip.AddrFrom4([4]byte(packet[16:20]))
	// Fragments are refused where the port decides: later ones do not have it.
	const moreFragments, offset = 0x2000, 0x1fff
	whole := binary.BigEndian.Uint16(packet[6:])&(moreFragments|offset) == 0
	header := int(packet[0]&0xf) * 4
	switch to {
	case f.dns:
		return whole && packet[9] == protocolUDP && len(packet) >= header+8 && binary.BigEndian.Uint16(packet[header+2:]) == portDNS
	case f.host:
		if packet[9] == protocolUDP {
			return whole && len(packet) >= header+8 && f.answersUDP(packet[header:])
		}
		return whole && packet[9] == protocolTCP && len(packet) >= header+20 && f.answers(packet[header:])
	}
	for _, p := range f.never {
		if p.Contains(to) {
			return false
		}
	}
	return f.own == nil || !f.own()[to]
}

// answers reports whether a TCP segment to the gateway belongs to a connection that was forwarded
// to the guest. The guest itself may not open connections to the gateway.
func (f *filter) answers(segment []byte) bool {
	opens := segment[13]&(flagSYN|flagACK) == flagSYN
	return !opens && f.published[qemu.Forward{Guest: binary.BigEndian.Uint16(segment)}]
}

// asked records a frame of passt from the host to a published UDP port.
func (f *filter) asked(frame []byte) {
	if len(frame) < ethernetHeader+minIPv4+8 || binary.BigEndian.Uint16(frame[etherType:]) != typeIPv4 {
		return
	}
	packet := frame[ethernetHeader:]
	header := int(packet[0]&0xf) * 4
	if packet[9] != protocolUDP || len(packet) < header+8 || netip.AddrFrom4([4]byte(packet[12:16])) != f.host {
		return
	}
	from := binary.BigEndian.Uint16(packet[header:])
	f.askers[from/32].Or(1 << (from % 32))
}

// answersUDP reports whether a datagram to the gateway answers one that came from there to a
// published port.
func (f *filter) answersUDP(datagram []byte) bool {
	from, to := binary.BigEndian.Uint16(datagram), binary.BigEndian.Uint16(datagram[2:])
	return f.published[qemu.Forward{Guest: from, UDP: true}] && f.askers[to/32].Load()&(1<<(to%32)) != 0
}

// ownAddresses caches this computer's addresses.
type ownAddresses struct {
	mu    sync.Mutex
	at    time.Time
	known map[netip.Addr]bool
}

// ownAge is the lifetime of ownAddresses. A new address of this computer is reachable for at most
// that time.
const ownAge = time.Second

func (o *ownAddresses) get() map[netip.Addr]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known != nil && time.Since(o.at) < ownAge {
		return o.known
	}
	list, err := net.InterfaceAddrs()
	if err != nil && o.known != nil {
		return o.known
	}
	known := make(map[netip.Addr]bool)
	for _, address := range list {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			known[prefix.Addr().Unmap()] = true
		}
	}
	o.known, o.at = known, time.Now()
	return known
}
