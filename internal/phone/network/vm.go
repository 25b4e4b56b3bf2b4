package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact"
)

// A Routing is how a guest's packets find the uplink, and their answers the guest.
type Routing string

// Routing modes.
const (
	// MainFirst lets every packet of the phone look into the table main first, and keeps the uplink's default route
	// there. It is what is proven on phones, and it takes the traffic of VPN apps along.
	MainFirst Routing = "main-first"
	// Scoped touches the guest's own packets only.
	Scoped Routing = "scoped"
)

// A VM is what one machine wants of its host's network.
type VM struct {
	Name    string       // of the machine; names the owner of what is made for it
	TAP     string       // interface to make
	Host    netip.Prefix // the host's address on it, with the length of the subnet's prefix
	Guest   netip.Prefix // the guest's address
	MTU     int          // bytes
	Routing Routing
	Publish []Port         // what may be reached from outside of the host
	Peers   []netip.Prefix // subnets of machines whose guests may talk with this one
	Uplink  string         // name of an interface, or "" or "auto" to follow Android's default network
}

// A Port is a TCP port of the guest that other computers may reach, where they have a route to it.
type Port struct {
	Port    uint16
	Forward bool // also reachable at the host's own address on the uplink, under the same number
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
	case vm.Routing != MainFirst && vm.Routing != Scoped:
		return fmt.Errorf("routing %q is neither %s nor %s", vm.Routing, MainFirst, Scoped)
	case slices.ContainsFunc(vm.Publish, func(p Port) bool { return p.Port == 0 }):
		return errors.New("port 0 cannot be published")
	}
	return nil
}

// Subnet is the network of the TAP interface.
func (vm VM) Subnet() netip.Prefix { return vm.Host.Masked() }
