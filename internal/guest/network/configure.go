//go:build linux

package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// pollInterval is the interval of polling for the interface.
const pollInterval = 20 * time.Millisecond

// resolvConf is the target of the image's link /etc/resolv.conf.
const resolvConf = "/run/resolv.conf"

// UpLoopback brings up lo, with 127.0.0.1.
func UpLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

// Configure sets the address, routes and name servers of an interface.
func Configure(name string, n configdisk.Network) error {
	if err := configureInterface(name, n); err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	return writeResolvConf(n.DNS)
}

// Find waits for the interface that spec describes and returns its name.
func Find(spec guestspec.Network) (string, error) {
	for deadline := time.Now().Add(time.Duration(spec.Wait)); ; time.Sleep(pollInterval) {
		// The entries are sorted, so the first match is always the same.
		entries, err := os.ReadDir("/sys/class/net")
		if err != nil {
			return "", fmt.Errorf("list network interfaces: %w", err)
		}
		for _, e := range entries {
			if e.Name() == spec.Interface || spec.Interface == "" && driver(e.Name()) == spec.Driver {
				return e.Name(), nil
			}
		}
		if time.Now().After(deadline) {
			if spec.Interface != "" {
				return "", fmt.Errorf("there is no network interface %s", spec.Interface)
			}
			return "", fmt.Errorf("there is no network interface of the driver %s", spec.Driver)
		}
	}
}

// driver returns the name of an interface's kernel driver, or "" for a virtual interface.
func driver(name string) string {
	target, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// Down takes an interface down. This is required before the kernel powers off: a kernel that breaks
// the queues of its virtio devices at that point and lacks commit 0d0eff39ceb3 of 2026
// ("virtio_ring: fix infinite loop in virtnet_poll_cleantx when device is broken") hangs if a
// packet is in flight, such as one of the last of a TCP connection.
func Down(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("take %s down: %w", name, err)
	}
	return nil
}

func configureInterface(name string, n configdisk.Network) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if n.MTU != 0 {
		if err := netlink.LinkSetMTU(link, n.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", n.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	if !n.Address.IsValid() {
		return nil
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(n.Address)}); err != nil {
		return fmt.Errorf("add address %s: %w", n.Address, err)
	}
	if !n.Gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: n.Gateway.AsSlice(), Dst: ipNet(netip.PrefixFrom(unspecified(n.Gateway), 0))}
	if !n.Address.Contains(n.Gateway) {
		// The gateway may be outside the prefix.
		route.Flags = int(netlink.FLAG_ONLINK)
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add default route via %s: %w", n.Gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// unspecified returns the unspecified (zero) address of a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// writeResolvConf writes the name servers to the file that libc and Go read.
func writeResolvConf(servers []netip.Addr) error {
	var b strings.Builder
	b.WriteString("# written by sov-init from the config disk\n")
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if err := os.WriteFile(resolvConf, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("name the DNS servers: %w", err)
	}
	return nil
}
