package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows ends the guest's connections over a previous uplink, so that programs reconnect.
//
// The kernel's conntrack table ties them to the old uplink's address; UDP flows that never pause,
// such as WireGuard's, would keep it forever. So their entries are deleted. A TCP connection on
// which the guest only receives would still wait for a timeout. Therefore the guest gets a segment
// outside its window, which it must acknowledge (RFC 9293, section 3.10.7.4). The acknowledgement
// leaves by the new uplink with an address that the other end does not know, and the other end
// answers with a reset.
func (h *Host) forgetFlows(vm VM) {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
	if err != nil {
		h.log(fmt.Sprintf("read the guest's connections over the old uplink: %v; they end by themselves", err))
		return // a kernel without ctnetlink
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, overUplink{vm}); err != nil {
		h.log(fmt.Sprintf("end the guest's connections over the old uplink: %v; they end by themselves", err))
		return
	}
	var peers []netip.AddrPort
	var ports []uint16
	for _, f := range flows {
		if f.Forward.Protocol == unix.IPPROTO_TCP && addrOf(f.Forward.SrcIP) == vm.Guest.Addr() && (overUplink{vm}).MatchConntrackFlow(f) {
			peers = append(peers, netip.AddrPortFrom(addrOf(f.Forward.DstIP), f.Forward.DstPort))
			ports = append(ports, f.Forward.SrcPort)
		}
	}
	if err := prod(vm, peers, ports); err != nil {
		h.log(fmt.Sprintf("tell the guest of its connections' end: %v; they end by themselves", err))
	}
}

// overUplink matches the connections of a guest that leave the host. Those with the host and with
// peers are kept: without its entry, a packet of such a connection would be dropped as the start of
// a forbidden one.
type overUplink struct{ vm VM }

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (o overUplink) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	var other netip.Addr
	switch o.vm.Guest.Addr() {
	case addrOf(f.Forward.SrcIP):
		other = addrOf(f.Forward.DstIP)
	case addrOf(f.Reverse.SrcIP):
		other = addrOf(f.Forward.SrcIP)
	default:
		return false
	}
	return !o.vm.Subnet().Contains(other) && !slices.ContainsFunc(o.vm.Peers, func(p Peer) bool { return p.Subnet().Contains(other) })
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// prod sends the guest a segment for each of its connections, to ports, with the addresses of
// peers. It writes to the TAP interface directly, because conntrack would treat them as connections
// of the host.
func prod(vm VM, peers []netip.AddrPort, ports []uint16) error {
	if len(peers) == 0 {
		return nil
	}
	link, err := netlink.LinkByName(vm.TAP)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Protocol: hostOrder(unix.ETH_P_IP), Ifindex: link.Attrs().Index, Halen: 6}
	neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, n := range neighbours {
		if n.IP.Equal(vm.Guest.Addr().AsSlice()) && len(n.HardwareAddr) == 6 {
			copy(to.Addr[:], n.HardwareAddr)
		}
	}
	if to.Addr == ([8]byte{}) {
		return nil // the guest has not sent anything yet
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(hostOrder(unix.ETH_P_IP)))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i, peer := range peers {
		if err := unix.Sendto(fd, segment(peer, netip.AddrPortFrom(vm.Guest.Addr(), ports[i])), 0, to); err != nil {
			return err
		}
	}
	return nil
}

// hostOrder returns a protocol number in network byte order, for packet(7).
func hostOrder(protocol uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
}

// segment is an IPv4 packet (RFC 791) with a bare TCP acknowledgement (RFC 9293) of sequence and
// acknowledgement number zero, which is in a connection's window only with a probability of about
// one in ten thousand.
func segment(from, to netip.AddrPort) []byte {
	const headers, window = 40, 1024
	p := make([]byte, headers)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP // version and length, time to live, protocol
	binary.BigEndian.PutUint16(p[2:], headers)
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20], 0))
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp[0:], from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12], tcp[13] = 5<<4, 0x10 // length in words; ACK
	binary.BigEndian.PutUint16(tcp[14:], window)
	pseudo := uint32(unix.IPPROTO_TCP) + uint32(len(tcp))
	for i := 12; i < 20; i += 2 { // both addresses
		pseudo += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(tcp[16:], checksum(tcp, pseudo))
	return p
}

// checksum is the internet's (RFC 1071), of an even number of bytes.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
