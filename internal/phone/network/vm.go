package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Routing is the mode of policy routing between a guest and the uplink.
type Routing string

// Routing modes.
const (
	// Auto is Scoped, or MainFirst if a round trip works only with that. See [Host.Decide].
	Auto Routing = "auto"
	// MainFirst routes every packet of the phone by the table main first, which has the uplink's
	// default route. It is proven on phones, but also affects the traffic of VPN apps.
	MainFirst Routing = "main-first"
	// Scoped affects only the guest's own packets.
	Scoped Routing = "scoped"
)

// A VM is one machine's configuration of its host's network.
type VM struct {
	Name    string       // of the machine, the owner of its resources
	TAP     string       // interface to create
	Host    netip.Prefix // the host's address on it, with the length of the subnet's prefix
	Guest   netip.Prefix // the guest's address
	MTU     int          // bytes
	Routing Routing
	Publish []Port       // ports for peers, and those that the host forwards at its own address
	Phone   []uint16     // TCP ports of the guest that the host's users other than root may reach
	Egress  Egress       // what the guest may reach in addition to the internet
	DNS     []netip.Addr // its name servers, which it may always reach, and which round trips use
	Peers   []Peer       // machines whose guests may communicate with this one
	Uplink  string       // name of an interface, or "" or "auto" to follow Android's default network
}

// An Egress is what a guest may reach in addition to the internet, its peers and the time server.
type Egress struct {
	Phone bool // the host's own ports
	LAN   bool // private networks through the uplink
}

// A Port is a port of the guest that is published.
type Port struct {
	Port    uint16
	UDP     bool   // not TCP
	Host    uint16 // the host's port if it is forwarded; 0: the same
	Forward bool   // reachable at the host's own address on the uplink
}

// A Peer is another machine of the host. Each reaches the published ports of the other.
type Peer struct {
	TAP     string       // its interface
	Guest   netip.Prefix // its address, with the length of its subnet's prefix
	Publish []Port
}

// Subnet is the network of its TAP interface.
func (p Peer) Subnet() netip.Prefix { return p.Guest.Masked() }

// match returns the iptables match of the protocol and the destination port.
func (p Port) match(port uint16) string {
	protocol := guestspec.TCP
	if p.UDP {
		protocol = guestspec.UDP
	}
	return fmt.Sprintf("-p %s -m %[1]s --dport %d", protocol, port)
}

func (vm VM) validate() error {
	subnet := vm.Host.Masked()
	if err := artifact.CheckName(vm.Name); err != nil {
		return err
	}
	if err := artifact.CheckInterface(vm.TAP); err != nil {
		return err
	}
	switch {
	case !vm.Host.IsValid() || !vm.Host.Addr().Is4() || !subnet.Contains(vm.Guest.Addr()) || vm.Host.Addr() == vm.Guest.Addr():
		return fmt.Errorf("host %s and guest %s are not two IPv4 addresses of one subnet", vm.Host, vm.Guest)
	case vm.MTU < 576 || vm.MTU > 65521:
		return fmt.Errorf("an MTU of %d bytes is not between 576 and 65521", vm.MTU)
	case !slices.Contains([]Routing{Auto, MainFirst, Scoped}, vm.Routing):
		return fmt.Errorf("routing %q is not %s, %s or %s", vm.Routing, Auto, Scoped, MainFirst)
	case slices.ContainsFunc(vm.Publish, func(p Port) bool { return p.Port == 0 }) || slices.Contains(vm.Phone, 0):
		return errors.New("port 0 cannot be published")
	}
	return nil
}

// Subnet is the network of the TAP interface.
func (vm VM) Subnet() netip.Prefix { return vm.Host.Masked() }
