//go:build linux

package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestLeased(t *testing.T) {
	answer := func(modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 2, 15)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithRouter(net.IPv4(10, 0, 2, 2)), dhcpv4.WithDNS(net.IPv4(10, 0, 2, 3), net.IPv4(1, 1, 1, 1), net.IPv4(2, 2, 2, 2), net.IPv4(3, 3, 3, 3))}, modifiers...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	n, err := leased(answer(dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(1400)})))
	if err != nil || n.Address != netip.MustParsePrefix("10.0.2.15/24") || n.Gateway.String() != "10.0.2.2" || len(n.DNS) != 3 || n.MTU != 1400 {
		t.Errorf("%v, %+v", err, n)
	}
	if n, err = leased(answer(dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(68)}))); err != nil || n.MTU != 0 {
		t.Errorf("an MTU with which nothing works: %v, %+v", err, n)
	}
	for name, m := range map[string]*dhcpv4.DHCPv4{
		"no address": answer(dhcpv4.WithYourIP(nil)), "no mask": answer(func(m *dhcpv4.DHCPv4) { delete(m.Options, uint8(dhcpv4.OptionSubnetMask.Code())) }),
		"multicast address": answer(dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1))),
	} {
		if n, err := leased(m); err == nil || !strings.Contains(err.Error(), "address") {
			t.Errorf("%s: %v, %+v", name, err, n)
		}
	}
}
