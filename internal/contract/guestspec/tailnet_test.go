package guestspec

import (
	"net/netip"
	"testing"
)

func TestIsTailnet(t *testing.T) {
	for address, want := range map[string]bool{
		"100.64.0.0": true, "100.127.255.255": true, "::ffff:100.64.0.1": true, "fd7a:115c:a1e0::1": true, "fd7a:115c:a1e0:ffff::": true,
		"100.63.255.255": false, "100.128.0.0": false, "192.168.100.2": false, "fd7a:115c:a1e1::": false, "::1": false,
	} {
		if got := IsTailnet(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t, want %t", address, got, want)
		}
	}
}
