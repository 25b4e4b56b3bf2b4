package localvm

import (
	"net/netip"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// A Published is a port of the guest that is reachable on this computer.
type Published struct {
	vmspec.Port
	Address netip.AddrPort `json:"address"` // on this computer
}

// String returns, for example, "web → 127.0.0.1:40123".
func (p Published) String() string { return p.Port.String() + " → " + p.Address.String() }

// IsDatabase reports whether the port is that of VM.URL.
func (p Published) IsDatabase() bool { return p.Service == guestspec.ServicePostgres && !p.UDP() }

// Published returns the ports that the artifact publishes, in its order.
func (vm *VM) Published() []Published {
	out := []Published{}
	for _, p := range vm.spec.Ports {
		out = append(out, Published{p, netip.AddrPortFrom(loopback, vm.port(forwardOf(p)))})
	}
	return out
}

// forwardOf forwards a published port from the recipe's port of this computer or a free one.
func forwardOf(p vmspec.Port) qemu.Forward {
	return qemu.Forward{Guest: uint16(p.Port), UDP: p.UDP(), Port: uint16(p.HostPort)}
}
