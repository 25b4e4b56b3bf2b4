package network

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// aliasPrefix begins the alias (ip link show) of interfaces that are ours; the machine's name follows.
const aliasPrefix = "sov:"

// makeTAP makes a persistent TAP interface with the flags that crosvm opens it with: it finds it by name.
func makeTAP(name string) error {
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("make a TAP interface (is /dev/net/tun there?): %w", err)
	}
	// An address that stays lets the guest's neighbour table hold when the interface is made anew.
	if err := netlink.LinkSetHardwareAddr(tap, hardwareAddress(name)); err != nil {
		return fmt.Errorf("set its hardware address: %w", err)
	}
	return nil
}

// hardwareAddress is a locally administered unicast address (IEEE 802, second bit of the first octet) made of a name.
func hardwareAddress(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("sov host " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// isOurs tells whether an interface may be one that makeTAP made: somebody may have put another in its place.
func isOurs(link netlink.Link) bool {
	_, tap := link.(*netlink.Tuntap)
	alias := link.Attrs().Alias
	return tap && (alias == "" || strings.HasPrefix(alias, aliasPrefix))
}

// ownTAP refuses an interface that is not owner's: no TAP interface, or one with neither owner's alias nor, as when its
// maker was killed before the alias was set, no alias at all and a place in the ledger.
func ownTAP(name, owner string, inLedger bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	alias := link.Attrs().Alias
	if tap, ok := link.(*netlink.Tuntap); ok && tap.Mode == netlink.TUNTAP_MODE_TAP && (alias == aliasPrefix+owner || alias == "" && inLedger) {
		return nil
	}
	return fmt.Errorf("there is an interface %s already, of type %s, which is not ours: remove it (ip link del %s) or give the machine "+
		"another name for its own, network.tap in the recipe", name, link.Type(), name)
}

// clashes returns the other interfaces with an address in vm's subnet: to the kernel, the guest would be behind one of them.
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

// refuseClash refuses the subnet of another machine. One of the phone's own networks comes and goes: Check tells of it.
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

// hasCarrier tells whether a process has a TAP interface open (drivers/net/tun.c: tun_attach turns the carrier on).
func hasCarrier(attrs *netlink.LinkAttrs) bool { return attrs.RawFlags&unix.IFF_LOWER_UP != 0 }

// neighbour are the parameters by which the host looks for the guest on a TAP interface (ip-sysctl, neigh/): every 200 ms
// in place of every second, so that a guest that has just booted is found at once, and for 3 seconds as usual.
var neighbour = map[string]string{"retrans_time_ms": "200", "mcast_solicit": "15"}

// tune gives the TAP interface its alias and MTU and brings it up.
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
	if attrs.Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring it up: %w", err)
		}
		report.Changed = append(report.Changed, "brought up "+vm.TAP)
		if link, err = netlink.LinkByName(vm.TAP); err != nil { // one that is down has no carrier, whoever has it open
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
