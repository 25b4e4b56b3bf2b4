package network

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// clashes returns the other interfaces with an address in vm's subnet. The kernel would look for
// the guest behind one of them.
func clashes(vm VM) ([]netlink.Link, error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	var out []netlink.Link
	for _, a := range addresses {
		if !prefixOf(a.IPNet).Masked().Overlaps(vm.Subnet()) {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err == nil && link.Attrs().Name != vm.TAP { // one that has just gone does not clash
			out = append(out, link)
		}
	}
	return out, nil
}

// refuseClash refuses the subnet of another machine. A network of the phone's own comes and goes:
// Check reports it.
func refuseClash(vm VM) error {
	links, err := clashes(vm)
	if err != nil {
		return err
	}
	for _, link := range links {
		if other, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix); ours && other != vm.Name { // else it goes, by release
			return fmt.Errorf("%s is the subnet of the machine %s: give this one another, network.host and network.guest in its recipe", vm.Subnet(), other)
		}
	}
	return nil
}
