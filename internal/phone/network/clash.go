package network

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// clashes returns the other interfaces with an address in vm's subnet. The kernel could send the
// guest's packets to one of them.
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
		if err == nil && link.Attrs().Name != vm.TAP { // a removed interface does not clash
			out = append(out, link)
		}
	}
	return out, nil
}

// refuseClash returns an error if another machine has the subnet. A clash with a network of the
// phone may be temporary: Check reports it.
func refuseClash(vm VM) error {
	links, err := clashes(vm)
	if err != nil {
		return err
	}
	for _, link := range links {
		if other, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix); ours && other != vm.Name { // otherwise release removes it
			return fmt.Errorf("%s is the subnet of the machine %s: give this one another, network.host and network.guest in its recipe", vm.Subnet(), other)
		}
	}
	return nil
}
