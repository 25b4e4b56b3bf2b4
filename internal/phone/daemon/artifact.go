package daemon

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	names "github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// An artifact is what a slot holds.
type artifact struct {
	slot    string // "a" or "b"
	dir     string
	version string
	spec    *vmspec.Spec
}

// maxSpec bounds vm.json and manifest.json, in bytes.
const maxSpec = 4 << 20

// loadArtifact reads the slot that `current` points to.
func loadArtifact(root phonepath.Root, s Settings, vm phonepath.VM) (*artifact, error) {
	slot, err := slots.Current(vm)
	if err != nil {
		return nil, err
	}
	return loadSlot(root, s, vm, slot)
}

func loadSlot(root phonepath.Root, s Settings, vm phonepath.VM, slot string) (*artifact, error) {
	a := &artifact{slot: slot, dir: vm.Slot(slot)}
	text, err := readTrusted(string(root), filepath.Join(a.dir, names.SpecFile), maxSpec)
	if err != nil {
		return nil, fmt.Errorf("%s: slot %s: %w", vm.Name, slot, err)
	}
	if a.spec, err = vmspec.Decode(text); err != nil {
		return nil, fmt.Errorf("%s: slot %s: %w", vm.Name, slot, err)
	}
	if a.spec.Name != vm.Name {
		return nil, fmt.Errorf("%s: slot %s holds the machine %s", vm.Name, slot, a.spec.Name)
	}
	if a.spec.Network.RoutingUnset {
		a.spec.Network.Routing = keptRouting(root, vm, slot)
	}
	if arch := s.arch(); a.spec.Arch != arch {
		return nil, fmt.Errorf("%s: slot %s is for %s, this phone is %s: build it with --arch %s", vm.Name, slot, a.spec.Arch, arch, arch)
	}
	for _, file := range append([]string{a.spec.Kernel}, rootfsFiles(a.spec)...) {
		if err := checkTrusted(string(root), filepath.Join(a.dir, file)); err != nil {
			return nil, fmt.Errorf("%s: slot %s: %w", vm.Name, slot, err)
		}
	}
	if m, err := manifest.Load(a.dir); err == nil {
		a.version = m.Version
	}
	return a, nil
}

func rootfsFiles(spec *vmspec.Spec) []string {
	var out []string
	for _, d := range spec.Disks {
		if d.Role == vmspec.RoleRootfs {
			out = append(out, d.File)
		}
	}
	return out
}

// network is what the artifact wants of the phone's network.
func (a *artifact) network(root phonepath.Root, s Settings, log func(string)) network.VM {
	n := a.spec.Network
	vm := network.VM{
		Name: a.spec.Name, TAP: n.TAP, Host: n.Host, Guest: n.Guest, MTU: n.MTU, Routing: network.Routing(n.Routing), Uplink: s.Uplink,
		Peers: peers(root, s, a.spec, log), DNS: n.DNS,
		Egress: network.Egress{LAN: slices.Contains(n.Egress, vmspec.EgressLAN), Phone: slices.Contains(n.Egress, vmspec.EgressPhone)},
	}
	for _, port := range n.Phone {
		vm.Phone = append(vm.Phone, uint16(port))
	}
	for _, p := range a.spec.Ports {
		vm.Publish = append(vm.Publish, network.Port{Port: uint16(p.Port), Forward: p.Forward})
	}
	return vm
}

// peers are the subnets of installed machines that spec names and that name it in turn.
func peers(root phonepath.Root, s Settings, spec *vmspec.Spec, log func(string)) []netip.Prefix {
	var out []netip.Prefix
	for _, name := range spec.Network.Peers {
		vm, err := root.VM(name)
		if err != nil {
			log(err.Error())
			continue
		}
		other, err := loadArtifact(root, s, vm)
		switch {
		case err != nil:
			log(fmt.Sprintf("peer %s: %v", name, err))
		case !slices.Contains(other.spec.Network.Peers, spec.Name):
			log(fmt.Sprintf("peer %s does not name %s among its own: they cannot reach each other", name, spec.Name))
		case other.spec.Network.Subnet().Overlaps(spec.Network.Subnet()):
			log(fmt.Sprintf("peer %s has the same subnet %s: give it another one in its recipe", name, spec.Network.Subnet()))
		default:
			out = append(out, other.spec.Network.Subnet())
		}
	}
	return out
}
