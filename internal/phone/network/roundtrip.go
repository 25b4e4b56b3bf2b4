package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/phone/tuntap"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errNoAnswer says that no answer for the guest came back.
var errNoAnswer = errors.New("no answer came back")

const (
	answerWait = 400 * time.Millisecond // for an answer; then the request is repeated
	questions  = 3
	// probePort is the guest's port, in the dynamic range (RFC 6335).
	probePort = 61208
	// vnetHeader is the size of the header before a frame (linux/virtio_net.h, struct
	// virtio_net_hdr), which is zero for a plain frame.
	vnetHeader    = 10
	ethernet      = 14
	ipv4Header    = 20
	udpHeader     = 8
	maxFrameBytes = 64 << 10
)

// roundTrip sends a DNS request to the guest's name servers through the TAP interface, with the
// guest's address, and waits for an answer. An ICMP port unreachable also counts.
func (h *Host) roundTrip(ctx context.Context, vm VM) error {
	servers := slices.DeleteFunc(slices.Clone(vm.DNS), func(a netip.Addr) bool { return !a.Is4() || vm.Subnet().Contains(a) })
	if len(servers) == 0 {
		return errors.New("the machine has no name server to ask")
	}
	link, err := netlink.LinkByName(vm.TAP)
	if err != nil {
		return err
	}
	wire, err := tuntap.Open(vm.TAP)
	if err != nil {
		return fmt.Errorf("open %s: %w", vm.TAP, err)
	}
	defer wire.Close()
	// A static neighbour entry, because ARP requests for the guest would not be answered. It is
	// removed before the guest starts.
	guest := hardwareAddress(vm.TAP + " guest")
	neighbour := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_REACHABLE, IP: vm.Guest.Addr().AsSlice(), HardwareAddr: guest}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("stand in for the guest: %w", err)
	}
	defer netlink.NeighDel(neighbour)
	for range questions {
		for _, server := range servers {
			frame := question(guest, link.Attrs().HardwareAddr, netip.AddrPortFrom(vm.Guest.Addr(), probePort), netip.AddrPortFrom(server, dnsPort))
			if _, err := wire.Write(frame); err != nil {
				return fmt.Errorf("send by %s: %w", vm.TAP, err)
			}
		}
		if err := wire.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
			return err
		}
		frame := make([]byte, maxFrameBytes)
		for {
			n, err := wire.Read(frame)
			if err != nil {
				break // timeout
			}
			if isAnswer(frame[:n], vm.Guest.Addr(), servers) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errNoAnswer
}

// rootServers is a DNS request for the name servers of the root (RFC 1035, section 4), which every
// resolver can answer.
var rootServers = []byte{0x73, 0x6f, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 /* the root */, 0, 2 /* NS */, 0, 1 /* IN */}

// question returns a frame with the request rootServers.
func question(from, to net.HardwareAddr, source, destination netip.AddrPort) []byte {
	f := make([]byte, vnetHeader+ethernet+ipv4Header+udpHeader, vnetHeader+ethernet+ipv4Header+udpHeader+len(rootServers))
	frame := f[vnetHeader:]
	copy(frame, to)
	copy(frame[6:], from)
	binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
	ip := frame[ethernet:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP // version and length, time to live, protocol
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Header+udpHeader+len(rootServers)))
	copy(ip[12:], source.Addr().AsSlice())
	copy(ip[16:], destination.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipv4Header], 0))
	udp := ip[ipv4Header:] // without a checksum, which is optional (RFC 768)
	binary.BigEndian.PutUint16(udp, source.Port())
	binary.BigEndian.PutUint16(udp[2:], destination.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(rootServers)))
	return append(f, rootServers...)
}

// isAnswer reports whether a frame is a server's answer to the guest: a datagram from its port, or
// ICMP destination unreachable (RFC 792).
func isAnswer(frame []byte, guest netip.Addr, servers []netip.Addr) bool {
	if len(frame) < vnetHeader+ethernet+ipv4Header+udpHeader {
		return false
	}
	frame = frame[vnetHeader:]
	ip := frame[ethernet:]
	header := int(ip[0]&0xf) * 4
	source, _ := netip.AddrFromSlice(ip[12:16])
	destination, _ := netip.AddrFromSlice(ip[16:20])
	if binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || len(ip) < header+udpHeader || destination != guest || !slices.Contains(servers, source) {
		return false
	}
	body := ip[header:]
	switch ip[9] {
	case unix.IPPROTO_UDP:
		return binary.BigEndian.Uint16(body) == dnsPort && binary.BigEndian.Uint16(body[2:]) == probePort
	case unix.IPPROTO_ICMP:
		const unreachable = 3
		return body[0] == unreachable
	}
	return false
}
