package network

import (
	"fmt"
	"net/netip"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
)

// An address is the host's address on a TAP interface.
type address struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"`
}

func (a address) String() string { return fmt.Sprintf("address %s on %s", a.Prefix, a.Link) }

func (a address) kind() string { return "address" }

func (a address) valid() bool { return a.Link != "" && a.Prefix.IsValid() && a.Prefix.Addr().Is4() }

// An address on sov's interface belongs to sov.
func (a address) foreign() bool { return false }

func (a address) exists(*Host) (bool, error) {
	link, err := findLink(a.Link)
	if link == nil || err != nil {
		return false, err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for _, have := range addresses {
		if prefixOf(have.IPNet) == a.Prefix {
			return true, nil
		}
	}
	return false, err
}

func (a address) make(*Host) error {
	link, err := netlink.LinkByName(a.Link)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a.Prefix)})
}

func (a address) undo(*Host, string) error {
	link, err := findLink(a.Link)
	if link == nil || err != nil {
		return err
	}
	return ignoreAbsent(netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(a.Prefix)}))
}

func (a address) missing() finding.Finding {
	return broken(LayerTAP, "the "+a.String()+" is missing", "it was removed")
}
