package egress

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// testOptions returns the options of a guest that publishes port 5432.
func testOptions() Options {
	return Options{
		Guest: netip.MustParsePrefix("192.168.100.2/24"), Host: netip.MustParseAddr("192.168.100.1"), DNS: netip.MustParseAddr("192.168.100.3"),
		MTU: 1500, Forward: []qemu.Forward{{Guest: 5432}},
	}
}

// A segment is a TCP segment or UDP datagram of the guest.
type segment struct {
	to       string
	protocol byte
	from     uint16 // port
	port     uint16
	flags    byte
	fragment uint16 // the flags and the offset of RFC 791
}

// frame returns s with its headers, as the guest sends it.
func (s segment) frame(t *testing.T) []byte {
	t.Helper()
	card, err := net.ParseMAC(HardwareAddress)
	if err != nil {
		t.Fatal(err)
	}
	host, err := net.ParseMAC(hostHardwareAddress)
	if err != nil {
		t.Fatal(err)
	}
	from, to := netip.MustParseAddr("192.168.100.2").AsSlice(), netip.MustParseAddr(s.to).AsSlice()
	payload := make([]byte, 20)
	binary.BigEndian.PutUint16(payload, s.from)
	binary.BigEndian.PutUint16(payload[2:], s.port)
	if s.protocol == protocolTCP {
		payload[12], payload[13], payload[14] = 5<<4, s.flags, 0xff // length of the header in words, window
		pseudo := append(append(append([]byte{}, from...), to...), 0, s.protocol, 0, byte(len(payload)))
		binary.BigEndian.PutUint16(payload[16:], checksum(append(pseudo, payload...)))
	}
	header := make([]byte, 20, 40)
	header[0], header[8], header[9] = 4<<4|5, 64, s.protocol // version and length, time to live
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload)))
	binary.BigEndian.PutUint16(header[6:], s.fragment)
	copy(header[12:], from)
	copy(header[16:], to)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	frame := append(append(append([]byte{}, host...), card...), 8, 0)
	return append(append(frame, header...), payload...)
}

// checksum returns the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 > 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestFilter(t *testing.T) {
	const syn, ack = flagSYN, flagACK
	lan, self := testOptions(), testOptions()
	lan.LAN, self.Self = true, true
	for _, tt := range []struct {
		segment
		plain, lan bool
	}{
		{segment{to: "203.0.113.7", protocol: protocolTCP, port: 443, flags: syn}, true, true},
		{segment{to: "203.0.113.7", protocol: protocolUDP, port: 41641}, true, true},
		{segment{to: "203.0.113.7", protocol: protocolUDP, fragment: 0x2000}, true, true},
		{segment{to: "127.0.0.1", protocol: protocolTCP, port: 5432, flags: syn}, false, false},
		{segment{to: "127.255.255.254", protocol: protocolUDP, port: 53}, false, false},
		{segment{to: "0.0.0.0", protocol: protocolTCP, port: 5432, flags: syn}, false, false},
		{segment{to: "169.254.169.254", protocol: protocolTCP, port: 80, flags: syn}, false, false},
		{segment{to: "224.0.0.251", protocol: protocolUDP, port: 5353}, false, false},
		{segment{to: "255.255.255.255", protocol: protocolUDP, port: 67}, false, false},
		{segment{to: "10.1.2.3", protocol: protocolTCP, port: 443, flags: syn}, false, true},
		{segment{to: "192.168.1.1", protocol: protocolUDP, port: 53}, false, true},
		{segment{to: "100.64.0.1", protocol: protocolTCP, port: 443, flags: syn}, false, true},
		{segment{to: "192.168.100.77", protocol: protocolTCP, port: 443, flags: syn}, false, false}, // the guest's subnet

		{segment{to: "192.168.100.3", protocol: protocolUDP, port: 53}, true, true},
		{segment{to: "192.168.100.3", protocol: protocolUDP, port: 54}, false, false},
		{segment{to: "192.168.100.3", protocol: protocolTCP, port: 53, flags: syn}, false, false},
		{segment{to: "192.168.100.3", protocol: protocolUDP, port: 53, fragment: 0x2000}, false, false},
		{segment{to: "192.168.100.3", protocol: protocolUDP, port: 53, fragment: 1}, false, false},

		{segment{to: "192.168.100.1", protocol: protocolTCP, from: 5432, port: 40000, flags: syn | ack}, true, true},
		{segment{to: "192.168.100.1", protocol: protocolTCP, from: 5432, port: 40000, flags: ack}, true, true},
		{segment{to: "192.168.100.1", protocol: protocolTCP, from: 5432, port: 40000, flags: syn}, false, false},
		{segment{to: "192.168.100.1", protocol: protocolTCP, from: 5433, port: 40000, flags: ack}, false, false},
		{segment{to: "192.168.100.1", protocol: protocolUDP, from: 5432, port: 53}, false, false},
		{segment{to: "192.168.100.1", protocol: 1}, false, false},
	} {
		frame := tt.frame(t)
		if got := newFilter(testOptions()).passes(frame); got != tt.plain {
			t.Errorf("%+v passes: %t", tt.segment, got)
		}
		if got := newFilter(lan).passes(frame); got != tt.lan {
			t.Errorf("with the LAN, %+v passes: %t", tt.segment, got)
		}
		for n := range frame { // a truncated frame must not pass
			if newFilter(testOptions()).passes(frame[:n]) && !tt.plain {
				t.Errorf("%d bytes of %+v pass", n, tt.segment)
			}
		}
	}
	own := ownAddress(t)
	toOwn := segment{to: own, protocol: protocolTCP, port: 22, flags: syn}.frame(t)
	if newFilter(testOptions()).passes(toOwn) {
		t.Errorf("%s, which is this computer's, is reached", own)
	}
	self.LAN = true
	if !newFilter(self).passes(toOwn) {
		t.Errorf("%s is not reached by a guest that may", own)
	}
	ipv6 := append([]byte{12: 0x86, 13: 0xdd}, make([]byte, 60)...)
	if newFilter(lan).passes(ipv6) {
		t.Error("IPv6 passes")
	}
	if !newFilter(testOptions()).passes(arpRequest(netip.MustParseAddr("192.168.100.2"), netip.MustParseAddr("192.168.100.1"))) {
		t.Error("ARP does not pass")
	}
}

// ownAddress returns an address of this computer that a guest could reach.
func ownAddress(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range list {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().String()
		}
	}
	t.Skip("this computer has no address but loopback's")
	return ""
}

func FuzzFilter(f *testing.F) {
	filter := newFilter(testOptions())
	f.Fuzz(func(t *testing.T, frame []byte) {
		if _, _, ok := flowOf(frame); ok {
			reply(frame, flagRST, sequence(tcp(frame)), acknowledgment(tcp(frame)))
		}
		if !filter.passes(frame) || frame[12] == 8 && frame[13] == 6 {
			return
		}
		if to := netip.AddrFrom4([4]byte(frame[30:34])); to.IsLoopback() || to.IsUnspecified() || to.IsLinkLocalUnicast() || to.IsMulticast() {
			t.Errorf("a frame to %s passes", to)
		}
	})
}

// startPasst starts a network, and returns it and the guest's end.
func startPasst(t *testing.T, o Options) (*Network, net.Conn) {
	t.Helper()
	var err error
	if o.Program, err = Find(); err != nil {
		t.Skip(err)
	}
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	card, err := net.FileConn(n.Card())
	if err != nil {
		t.Fatal(err)
	}
	n.Card().Close()
	t.Cleanup(func() { card.Close() })
	return n, card
}

func send(t *testing.T, card net.Conn, frame []byte) {
	t.Helper()
	if _, err := card.Write(append(length(frame), frame...)); err != nil {
		t.Fatal(err)
	}
}

// TestLoopbackIsOutOfReach: passt forwards a guest's packets to 127.0.0.1 to this computer's
// loopback. The filter blocks them.
func TestLoopbackIsOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			came <- struct{}{}
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	_, card := startPasst(t, testOptions())
	for _, to := range []string{"127.0.0.1", "0.0.0.0", "192.168.100.1"} {
		send(t, card, segment{to: to, protocol: protocolTCP, from: 40000, port: uint16(port), flags: flagSYN}.frame(t))
	}
	// Frames keep their order: once passt has answered this one, it has handled the earlier ones.
	send(t, card, arpRequest(netip.MustParseAddr("192.168.100.2"), netip.MustParseAddr("192.168.100.1")))
	card.SetDeadline(time.Now().Add(time.Minute))
	answers := newFrames(card)
	for {
		frame, err := answers.next()
		if err != nil {
			t.Fatal(err)
		}
		if isARPReply(frame) {
			break
		}
		t.Errorf("the guest is answered: %x", frame)
	}
	select {
	case <-came:
		t.Error("the guest reaches loopback")
	default:
	}
}

// TestForwardedPort: a connection to the forwarded port reaches the guest from its gateway.
func TestForwardedPort(t *testing.T) {
	n, card := startPasst(t, testOptions())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	port := n.Port(qemu.Forward{Guest: 5432})
	go func() {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
		if err == nil {
			defer conn.Close()
			<-ctx.Done()
		}
	}()
	card.SetDeadline(time.Now().Add(time.Minute))
	frames := newFrames(card)
	for {
		frame, err := frames.next()
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > 47 && frame[23] == protocolTCP {
			if from := netip.AddrFrom4([4]byte(frame[26:30])); from.String() != "192.168.100.1" || binary.BigEndian.Uint16(frame[36:]) != 5432 {
				t.Errorf("a segment from %s to port %d", from, binary.BigEndian.Uint16(frame[36:]))
			}
			return
		}
	}
}

// TestPasstEnds: passt ends when the card is closed, which is not a loss. A killed passt is lost.
func TestPasstEnds(t *testing.T) {
	n, card := startPasst(t, testOptions())
	card.Close()
	awaitEnd(t, n)
	select {
	case <-n.Lost():
		t.Error("it counts as lost")
	default:
	}
	killed, _ := startPasst(t, testOptions())
	if err := syscall.Kill(killed.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-killed.Lost():
	case <-time.After(time.Minute):
		t.Fatal("the end of the killed process is not detected")
	}
	if err := killed.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Error(err)
	}
}

func awaitEnd(t *testing.T, n *Network) {
	t.Helper()
	select {
	case <-n.exited:
	case <-time.After(time.Minute):
		t.Fatal("passt lives on")
	}
}

// TestStartReportsPasstErrors: Start fails for a port in use, and for a program that is not passt.
func TestStartReportsPasstErrors(t *testing.T) {
	program, err := Find()
	if err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := testOptions()
	o.Program, o.Forward = program, []qemu.Forward{{Guest: 5432, Port: uint16(l.Addr().(*net.TCPAddr).Port)}}
	if n, err := Start(t.Context(), o); err == nil {
		n.Close()
		t.Error("a port that is taken is forwarded")
	} else if !strings.Contains(err.Error(), "start passt: ") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Error(err)
	}
	if o.Program, err = exec.LookPath("true"); err != nil {
		t.Skip(err)
	}
	if n, err := Start(t.Context(), o); err == nil {
		n.Close()
		t.Error("true(1) passes for passt")
	}
}

// TestUDPAnswers: the guest can send from a published UDP port only to clients that sent a datagram
// to it.
func TestUDPAnswers(t *testing.T) {
	o := testOptions()
	o.Forward = append(o.Forward, qemu.Forward{Guest: 53, UDP: true})
	f := newFilter(o)
	answer := segment{to: "192.168.100.1", protocol: protocolUDP, from: 53, port: 40000}.frame(t)
	if f.passes(answer) {
		t.Error("an unsolicited datagram passes")
	}
	asked := segment{to: "192.168.100.2", protocol: protocolUDP, from: 40000, port: 53}.frame(t)
	copy(asked[26:30], netip.MustParseAddr("192.168.100.1").AsSlice())
	f.asked(asked)
	if !f.passes(answer) {
		t.Error("an answer does not pass")
	}
	for _, other := range []segment{
		{to: "192.168.100.1", protocol: protocolUDP, from: 53, port: 40001},
		{to: "192.168.100.1", protocol: protocolUDP, from: 54, port: 40000},
		{to: "192.168.100.1", protocol: protocolUDP, from: 53, port: 40000, fragment: 1},
	} {
		if f.passes(other.frame(t)) {
			t.Errorf("%+v passes", other)
		}
	}
}
