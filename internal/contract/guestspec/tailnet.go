package guestspec

import "net/netip"

// Tailnet4 and Tailnet6 are where Tailscale's addresses are: the shared address space of RFC 6598,
// and Tailscale's own unique local prefix (RFC 4193).
var (
	Tailnet4 = netip.MustParsePrefix("100.64.0.0/10")
	Tailnet6 = netip.MustParsePrefix("fd7a:115c:a1e0::/48")
)

// IsTailnet reports whether a is an address of a tailnet. A network with carrier-grade NAT has such
// IPv4 addresses as well.
func IsTailnet(a netip.Addr) bool { return Tailnet4.Contains(a.Unmap()) || Tailnet6.Contains(a) }
