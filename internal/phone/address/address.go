// Package address chooses the addresses of machines whose recipes do not set them, and prevents two
// machines of a phone from using the same network or TAP interface.
//
// It chooses once, when a version is installed or first started. The machine keeps the addresses
// across updates, because other machines use them. The choice is the first network of vmspec.Pools
// that neither another machine nor a route of the phone uses.
package address

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// bits is the prefix length of a chosen network.
const bits = 24

// patience is how long to wait for a concurrent choice, which reads a few files.
const patience = 10 * time.Second

// Apply sets the machine's addresses in a version that was read from a slot. Addresses in the
// recipe take precedence.
func Apply(vm phonepath.VM, n *vmspec.Network) {
	if host, ok := kept(vm, n); ok {
		n.Host, n.Guest = host, netip.PrefixFrom(host.Addr().Next(), host.Bits())
	}
}

// kept returns the recorded addresses, or those of the version in another slot if they are in the
// pools: the PostgreSQL rules of a version without addresses accept only those.
func kept(vm phonepath.VM, n *vmspec.Network) (host netip.Prefix, ok bool) {
	if !n.AddressUnset {
		return host, false
	}
	if text, err := os.ReadFile(vm.Address()); err == nil {
		host, err = netip.ParsePrefix(strings.TrimSpace(string(text)))
		return host, err == nil
	}
	for _, slot := range slots.Names {
		if other, err := readSpec(vm, slot); err == nil && !other.Network.AddressUnset && choosable(other.Network) {
			return other.Network.Host, true
		}
	}
	return host, false
}

// Claim chooses and records addresses for a version that will be installed or started, if its
// recipe does not set them and none are recorded. It refuses a version with the network or TAP
// interface of another machine.
func Claim(vm phonepath.VM, n vmspec.Network) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lock, err := durable.WaitLock(ctx, vm.Root().Addresses(), durable.Exclusive, durable.LockOptions{Transient: true})
	if err != nil {
		return fmt.Errorf("choose addresses for %s: %w", vm.Name, err)
	}
	defer lock.Release()
	others, err := others(vm)
	if err != nil {
		return err
	}
	if !n.AddressUnset {
		if before, err := current(vm); err == nil && before.TAP == n.TAP && before.Subnet() == n.Subnet() {
			return nil // an update keeps the addresses
		}
		return refuse(vm.Name, n, others)
	}
	host, ok := kept(vm, &n)
	if !ok {
		if host, err = choose(n.Host, others); err != nil {
			return fmt.Errorf("choose addresses for %s: %w", vm.Name, err)
		}
	}
	n.Host, n.Guest = host, netip.PrefixFrom(host.Addr().Next(), host.Bits())
	if err := refuse(vm.Name, vmspec.Network{TAP: n.TAP, Host: n.Host}, others); err != nil && !ok {
		return err
	}
	return durable.WriteFile(vm.Address(), []byte(host.String()+"\n"), 0o644)
}

// refuse returns an error if another machine has the network or TAP interface.
func refuse(name string, n vmspec.Network, others map[string]vmspec.Network) error {
	for other, has := range others {
		switch {
		case has.Subnet().Overlaps(n.Subnet()):
			return fmt.Errorf("%s has the network %s, and %s on this phone has %s: leave network.host and network.guest out of the recipe of %[1]s, "+
				"and a free one is chosen, or give others there; then `sov build` and `sov push` again", name, n.Subnet(), other, has.Subnet())
		case has.TAP == n.TAP:
			return fmt.Errorf("%s has the TAP interface %s, and so has %s on this phone: leave network.tap out of the recipe of %[1]s, or give another one; "+
				"then `sov build` and `sov push` again", name, n.TAP, other)
		}
	}
	return nil
}

// others returns the networks of the other installed machines.
func others(vm phonepath.VM) (map[string]vmspec.Network, error) {
	entries, err := os.ReadDir(vm.Root().VMs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]vmspec.Network{}
	for _, e := range entries {
		other, err := vm.Root().VM(e.Name())
		if err != nil || other.Name == vm.Name {
			continue
		}
		if n, err := current(other); err == nil { // a version that cannot be read cannot be started
			out[other.Name] = n
		}
	}
	return out, nil
}

// current returns the network of a machine's current version.
func current(vm phonepath.VM) (vmspec.Network, error) {
	slot, err := slots.Current(vm)
	if err != nil {
		return vmspec.Network{}, err
	}
	spec, err := readSpec(vm, slot)
	if err != nil {
		return vmspec.Network{}, err
	}
	Apply(vm, &spec.Network)
	return spec.Network, nil
}

func readSpec(vm phonepath.VM, slot string) (*vmspec.Spec, error) {
	text, err := installed.ReadFile(filepath.Join(vm.Slot(slot), artifact.SpecFile))
	if err != nil {
		return nil, err
	}
	return vmspec.Decode(text)
}

// choose returns the host's address in a free network, the wanted one if it is free.
func choose(wanted netip.Prefix, others map[string]vmspec.Network) (netip.Prefix, error) {
	var taken []netip.Prefix
	for _, n := range others {
		taken = append(taken, n.Subnet())
	}
	// The routes of all tables, including those of Android's networks, without default routes.
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list the phone's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if prefix, err := netip.ParsePrefix(r.Dst.String()); err == nil && prefix.Bits() > 0 {
			taken = append(taken, prefix)
		}
	}
	return free(wanted, taken)
}

// free returns the host's address in the first network of the pools, from the wanted one on, that
// does not overlap with taken.
func free(wanted netip.Prefix, taken []netip.Prefix) (netip.Prefix, error) {
	var candidates []netip.Prefix
	for _, pool := range vmspec.Pools {
		for network := netip.PrefixFrom(pool.Addr(), bits); pool.Contains(network.Addr()); network = following(network) {
			candidates = append(candidates, network)
		}
	}
	first := max(slices.Index(candidates, wanted.Masked()), 0)
	for _, network := range slices.Concat(candidates[first:], candidates[:first]) {
		if !slices.ContainsFunc(taken, network.Overlaps) {
			return netip.PrefixFrom(network.Addr().Next(), bits), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("every network of %v is used on this phone: give network.host and network.guest in the recipe", vmspec.Pools)
}

// choosable reports whether choose can return a network.
func choosable(n vmspec.Network) bool {
	return n.Host.Bits() == bits && n.Host.Addr() == n.Host.Masked().Addr().Next() && n.Guest.Addr() == n.Host.Addr().Next() &&
		slices.ContainsFunc(vmspec.Pools, func(pool netip.Prefix) bool { return pool.Overlaps(n.Host) })
}

// following returns the next network of the same size.
func following(n netip.Prefix) netip.Prefix {
	a := n.Addr().As4()
	next := (uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])) + 1<<(32-n.Bits())
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(next >> 24), byte(next >> 16), byte(next >> 8), byte(next)}), n.Bits())
}
