package network

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// aliasPrefix is the prefix of the alias (ip link show) of sov's interfaces. The machine's name
// follows.
const aliasPrefix = "sov:"

// A tap is a TAP interface.
type tap struct {
	Link string `json:"link"`
}

func (t tap) String() string { return "TAP interface " + t.Link }

func (t tap) kind() string { return "tap" }

func (t tap) valid() bool { return t.Link != "" }

// An interface that passes checkOwner belongs to sov.
func (t tap) foreign() bool { return false }

func (t tap) exists(*Host) (bool, error) {
	link, err := findLink(t.Link)
	return link != nil, err
}

// make creates a persistent interface with the flags with which crosvm opens it by name.
func (t tap) make(*Host) error {
	link := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: t.Link},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("make a TAP interface (is /dev/net/tun there?): %w", err)
	}
	// With a fixed address, the guest's neighbour table stays valid when the interface is
	// re-created.
	if err := netlink.LinkSetHardwareAddr(link, hardwareAddress(t.Link)); err != nil {
		return fmt.Errorf("set its hardware address: %w", err)
	}
	return nil
}

// hardwareAddress is a locally administered unicast address (IEEE 802, second bit of the first
// octet) derived from a name.
func hardwareAddress(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("sov host " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// undo keeps an interface with which another program has replaced sov's.
func (t tap) undo(*Host, string) error {
	link, err := findLink(t.Link)
	if link == nil || err != nil || !mayBeOurs(link) {
		return err
	}
	return ignoreAbsent(netlink.LinkDel(link))
}

// mayBeOurs reports whether make may have created an interface.
func mayBeOurs(link netlink.Link) bool {
	_, isTAP := link.(*netlink.Tuntap)
	alias := link.Attrs().Alias
	return isTAP && (alias == "" || strings.HasPrefix(alias, aliasPrefix))
}

// checkOwner returns an error for an interface that is not a TAP interface with the owner's alias.
// An interface without an alias is accepted if it is in the ledger: its creator was killed before
// it set the alias.
func (t tap) checkOwner(owner string, inLedger bool) error {
	link, err := netlink.LinkByName(t.Link)
	if err != nil {
		return err
	}
	alias := link.Attrs().Alias
	if have, ok := link.(*netlink.Tuntap); ok && have.Mode == netlink.TUNTAP_MODE_TAP && (alias == aliasPrefix+owner || alias == "" && inLedger) {
		return nil
	}
	return fmt.Errorf("there is an interface %s already, of type %s, which is not ours: remove it (ip link del %s) or give the machine "+
		"another name for its own, network.tap in the recipe", t.Link, link.Type(), t.Link)
}

func (t tap) missing() finding.Finding {
	return broken(LayerTAP, "there is no interface "+t.Link,
		"it was deleted; the machine that had it open has no network until it is restarted")
}

// hasCarrier reports whether a process has a TAP interface open (drivers/net/tun.c: tun_attach
// turns the carrier on).
func hasCarrier(attrs *netlink.LinkAttrs) bool { return attrs.RawFlags&unix.IFF_LOWER_UP != 0 }

// neighbour are the ARP parameters of a TAP interface (ip-sysctl, neigh/): requests every 200 ms
// instead of every second, so that a guest that has just booted is found at once, for 3 seconds in
// total as usual.
var neighbour = map[string]string{"retrans_time_ms": "200", "mcast_solicit": "15"}

// ipv6Off returns the parameter that disables IPv6 on an interface (ip-sysctl,
// conf/*/disable_ipv6): otherwise guest and phone could communicate by link-local addresses, past
// the rules for IPv4. A kernel without IPv6 does not have it.
func ipv6Off(link string) string { return "net/ipv6/conf/" + link + "/disable_ipv6" }

func (h *Host) hasIPv6(link string) bool {
	value, err := h.readSysctl(ipv6Off(link))
	return err == nil && value != "1"
}

// tune sets the TAP interface's alias and MTU, disables IPv6 and brings it up.
func (h *Host) tune(vm VM, report *Report) error {
	link, err := netlink.LinkByName(vm.TAP)
	if err != nil {
		return err
	}
	attrs := link.Attrs()
	if attrs.Alias != aliasPrefix+vm.Name {
		if err := netlink.LinkSetAlias(link, aliasPrefix+vm.Name); err != nil {
			return fmt.Errorf("set its alias: %w", err)
		}
	}
	if attrs.MTU != vm.MTU {
		if err := netlink.LinkSetMTU(link, vm.MTU); err != nil {
			return fmt.Errorf("set its MTU to %d bytes: %w", vm.MTU, err)
		}
		report.Changed = append(report.Changed, fmt.Sprintf("set the MTU of %s to %d", vm.TAP, vm.MTU))
	}
	if h.hasIPv6(vm.TAP) {
		if err := h.writeSysctl(ipv6Off(vm.TAP), "1"); err != nil {
			return fmt.Errorf("switch IPv6 off: %w", err)
		}
		report.Changed = append(report.Changed, "switched IPv6 off on "+vm.TAP)
	}
	if attrs.Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring it up: %w", err)
		}
		report.Changed = append(report.Changed, "brought up "+vm.TAP)
		if link, err = netlink.LinkByName(vm.TAP); err != nil { // an interface that is down has no carrier, even if a process has it open
			return err
		}
	}
	report.Carrier = hasCarrier(link.Attrs())
	for name, value := range neighbour {
		if err := h.writeSysctl("net/ipv4/neigh/"+vm.TAP+"/"+name, value); err != nil {
			return err
		}
	}
	return nil
}
