//go:build linux

package network

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// Status describes the present state of an interface.
func Status(name string) *guestapi.Network {
	status := &guestapi.Network{Interface: name}
	link, err := netlink.LinkByName(name)
	if err != nil {
		status.Fault = fmt.Sprintf("interface %s: %v", name, err)
		return status
	}
	const up = unix.IFF_UP | unix.IFF_LOWER_UP
	status.Up = link.Attrs().RawFlags&up == up
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		status.Fault = fmt.Sprintf("addresses of %s: %v", name, err)
		return status
	}
	if len(addresses) > 0 {
		status.Address = addresses[0].IPNet.String()
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		status.Fault = fmt.Sprintf("routes of %s: %v", name, err)
		return status
	}
	for _, r := range routes {
		if ones, _ := maskOf(r.Dst); ones == 0 && r.Gw != nil {
			status.Gateway = r.Gw.String()
		}
	}
	return status
}

// maskOf returns the length of a destination's prefix; netlink has no destination for the default
// route.
func maskOf(dst *net.IPNet) (ones, bits int) {
	if dst == nil {
		return 0, 0
	}
	return dst.Mask.Size()
}
