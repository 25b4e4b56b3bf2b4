//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
)

// A link is two connected network namespaces: the guest's and the host's.
type link struct {
	guest, host netns.NsHandle
}

// newLink gives the host 192.168.100.1 and .3, the guest .2, and both a route to 10.9.0.0/16 and
// fd00::/64.
func newLink(t *testing.T) *link {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &link{netnstest.New(t), netnstest.New(t)}
	within := func(ns netns.NsHandle, fn func()) { must(t, netnstest.In(ns, func() error { fn(); return nil })) }
	within(l.guest, func() {
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "enp7s0"}, PeerName: "tap", PeerNamespace: netlink.NsFd(l.host)}))
	})
	setUp := func(name string, addresses ...string) {
		link, err := netlink.LinkByName(name)
		must(t, err)
		for _, a := range addresses {
			address, err := netlink.ParseAddr(a)
			must(t, err)
			address.Flags = unix.IFA_F_NODAD
			must(t, netlink.AddrAdd(link, address))
		}
		must(t, netlink.LinkSetUp(link))
	}
	within(l.guest, func() { setUp("lo"); setUp("enp7s0", "192.168.100.2/24", "10.9.0.2/16", "fd00::2/64") })
	within(l.host, func() {
		setUp("tap", "192.168.100.1/24", "192.168.100.3/24", "10.9.0.1/16", "10.9.1.1/16", "fd00::1/64")
	})
	return l
}

// listen listens on these ports in the guest.
func (l *link) listen(t *testing.T, ports ...int) {
	t.Helper()
	must(t, netnstest.In(l.guest, func() error {
		for _, port := range ports {
			listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { listener.Close() })
		}
		return nil
	}))
}

// patience bounds every wait for an event that happens within moments, on a busy computer.
const patience = 2 * time.Minute

// refusal is how long a test waits for a packet that must not arrive.
const refusal = 300 * time.Millisecond

// limit returns how long to wait for a packet that is let in, or is not.
func limit(let bool) time.Duration {
	if let {
		return patience
	}
	return refusal
}

// reaches connects from an address of the host to an address of the guest.
func (l *link) reaches(from, to string, let bool) error {
	return netnstest.In(l.host, func() error {
		d := net.Dialer{Timeout: limit(let), LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp", to)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func TestFirewall(t *testing.T) {
	l := newLink(t)
	l.listen(t, 5432, 8377, 80, 22)
	f := Firewall{
		Link: "enp7s0", Subnet: netip.MustParsePrefix("192.168.100.2/24"), Gateway: netip.MustParseAddr("192.168.100.1"), Endpoint: 8377,
		Open: []guestspec.Opening{
			{Protocol: "tcp", Port: 5432, On: "link", From: []string{"subnet", "10.9.0.0/24", "fd00::/127"}},
			{Protocol: "tcp", Port: 80, On: "link"},
			{Protocol: "tcp", Port: 22, On: "tailnet"},
			{Protocol: "udp", Port: 41641, On: "link"},
		},
	}
	for range 3 { // repeating it changes nothing
		must(t, netnstest.In(l.guest, f.Apply))
	}
	for _, tt := range []struct {
		from, to string
		let      bool
	}{
		{"192.168.100.1", "192.168.100.2:5432", true},
		{"192.168.100.3", "192.168.100.2:5432", true},
		{"10.9.0.1", "10.9.0.2:5432", true},
		{"10.9.1.1", "10.9.0.2:5432", false}, // not in the prefix
		{"fd00::1", "[fd00::2]:5432", true},
		{"192.168.100.1", "192.168.100.2:8377", true},
		{"192.168.100.3", "192.168.100.2:8377", false}, // not the host
		{"10.9.1.1", "10.9.0.2:80", true},              // published: to all hosts
		{"fd00::1", "[fd00::2]:80", true},
		{"192.168.100.1", "192.168.100.2:22", false}, // on the tailnet only
		{"192.168.100.1", "192.168.100.2:81", false},
	} {
		err := l.reaches(tt.from, tt.to, tt.let)
		var timeout net.Error
		if tt.let && err != nil || !tt.let && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			t.Errorf("from %s to %s: %v, want let in: %t", tt.from, tt.to, err, tt.let)
		}
	}
	t.Run("answers, the guest itself, and what comes by datagram", func(t *testing.T) { l.converse(t) })
	t.Run("one table, one chain", func(t *testing.T) { l.wantOneTable(t) })
}

// converse tests traffic that is allowed without an opened port.
func (l *link) converse(t *testing.T) {
	must(t, netnstest.In(l.guest, func() error {
		for _, own := range []string{"127.0.0.1:22", "192.168.100.2:8377"} {
			conn, err := net.DialTimeout("tcp", own, patience)
			if err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	}))
	var host net.Listener
	must(t, netnstest.In(l.host, func() (err error) { host, err = net.Listen("tcp", "192.168.100.1:443"); return err }))
	defer host.Close()
	must(t, netnstest.In(l.guest, func() error { _, err := net.DialTimeout("tcp", "192.168.100.1:443", patience); return err }))
	for port, let := range map[int]bool{41641: true, 41642: false} {
		var guest net.PacketConn
		must(t, netnstest.In(l.guest, func() (err error) {
			guest, err = net.ListenPacket("udp", fmt.Sprintf("192.168.100.2:%d", port))
			return err
		}))
		defer guest.Close()
		must(t, netnstest.In(l.host, func() error {
			conn, err := net.Dial("udp", fmt.Sprintf("192.168.100.2:%d", port))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			return err
		}))
		must(t, guest.SetReadDeadline(time.Now().Add(limit(let))))
		if _, _, err := guest.ReadFrom(make([]byte, 1)); (err == nil) != let {
			t.Errorf("a datagram to port %d: %v, want let in: %t", port, err, let)
		}
	}
	// The guest answers an echo request: the host can distinguish a guest without services from a
	// guest without a link.
	must(t, netnstest.In(l.host, func() error { return ping("192.168.100.2") }))
}

// ping sends an ICMP echo request and waits for the reply.
func ping(to string) error {
	conn, err := net.Dial("ip4:icmp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0} // echo request with its checksum
	if _, err := conn.Write(request); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, _, err := conn.(*net.IPConn).ReadFrom(answer) // Read has the IP header, too
	if err == nil && (n < 8 || answer[0] != 0) {
		return fmt.Errorf("got % x", answer[:n])
	}
	return err
}

func (l *link) wantOneTable(t *testing.T) {
	must(t, netnstest.In(l.guest, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if err != nil {
			return err
		}
		chains, err := conn.ListChains()
		if err != nil {
			return err
		}
		if len(tables) != 1 || len(chains) != 1 || chains[0].Policy == nil || *chains[0].Policy != nftables.ChainPolicyDrop {
			t.Errorf("%d tables, %d chains", len(tables), len(chains))
		}
		return nil
	}))
}

func TestFirewallRefusesNonsense(t *testing.T) {
	f := Firewall{Open: []guestspec.Opening{{From: []string{"everywhere"}}}}
	if err := f.Apply(); err == nil || !strings.Contains(err.Error(), "everywhere") {
		t.Errorf("got %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
