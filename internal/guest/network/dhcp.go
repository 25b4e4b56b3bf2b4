//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

const (
	// dhcpAnswer is the timeout of a request before it is repeated, dhcpRetries the number of
	// repetitions before the attempt fails.
	dhcpAnswer  = 2 * time.Second
	dhcpRetries = 3
	// dhcpPause is the pause between two attempts, dhcpLeast the minimum time before a lease is
	// renewed.
	dhcpPause, dhcpLeast = 10 * time.Second, time.Minute
)

// KeepLease requests an address for the interface by DHCP (RFC 2131), and renews the lease after
// half of its time, until ctx is done. It calls apply with each new configuration, and report with
// errors, without repeating the same error. The address is kept even if the server does not answer
// any more.
func KeepLease(ctx context.Context, link, hostname string, apply func(configdisk.Network), report func(error)) {
	var now configdisk.Network
	var logged string
	for {
		got, renew, err := askLease(ctx, link, hostname)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if renew = dhcpPause; err.Error() != logged {
				logged = err.Error()
				report(fmt.Errorf("ask for the address of %s by DHCP: %w; it is asked for again", link, err))
			}
		} else {
			logged = ""
			if got.Address != now.Address || got.Gateway != now.Gateway {
				apply(got)
				now = got
			}
		}
		select {
		case <-time.After(renew):
		case <-ctx.Done():
			return
		}
	}
}

// askLease requests an address, and returns it with the time until the renewal of the lease.
func askLease(ctx context.Context, link, hostname string) (configdisk.Network, time.Duration, error) {
	device, err := netlink.LinkByName(link)
	if err == nil {
		err = netlink.LinkSetUp(device)
	}
	if err != nil {
		return configdisk.Network{}, 0, err
	}
	client, err := nclient4.New(link, nclient4.WithTimeout(dhcpAnswer), nclient4.WithRetry(dhcpRetries))
	if err != nil {
		return configdisk.Network{}, 0, err
	}
	defer client.Close()
	lease, err := client.Request(ctx, dhcpv4.WithOption(dhcpv4.OptHostName(hostname)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU))
	if err != nil {
		return configdisk.Network{}, 0, err
	}
	n, err := leased(lease.ACK)
	return n, max(lease.ACK.IPAddressLeaseTime(time.Hour)/2, dhcpLeast), err
}

// leased returns the configuration in a server's ACK.
func leased(ack *dhcpv4.DHCPv4) (configdisk.Network, error) {
	var n configdisk.Network
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, size := ack.SubnetMask().Size()
	if !ok || size != 32 {
		return n, errors.New("the server's answer has no address, or no mask")
	}
	n.Address = netip.PrefixFrom(address, bits)
	for _, router := range ack.Router() {
		if a, ok := netip.AddrFromSlice(router.To4()); ok && !n.Gateway.IsValid() {
			n.Gateway = a
		}
	}
	for _, server := range ack.DNS() {
		if a, ok := netip.AddrFromSlice(server.To4()); ok && len(n.DNS) < 3 {
			n.DNS = append(n.DNS, a)
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 { // RFC 791's minimum for hosts
		n.MTU = int(mtu)
	}
	return n, configdisk.Config{Network: n}.Validate()
}

// Forget removes an old address from an interface.
func Forget(link string, address netip.Prefix) error {
	device, err := netlink.LinkByName(link)
	if err == nil {
		err = netlink.AddrDel(device, &netlink.Addr{IPNet: ipNet(address)})
	}
	if err != nil {
		return fmt.Errorf("take %s off %s: %w", address, link, err)
	}
	return nil
}
