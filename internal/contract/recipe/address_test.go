package recipe

import (
	"slices"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		text, tap, host, guest string
		unset                  bool
	}{
		{"name: tiny\n", "vm_tiny", "192.168.100.1/24", "192.168.100.2", true},
		{"name: a-very-long-name\n", "vm_a-very-_6c15", "192.168.100.1/24", "192.168.100.2", true},
		{"name: tiny\nnetwork: {tap: vm_x}\n", "vm_x", "192.168.100.1/24", "192.168.100.2", true},
		{"name: tiny\nnetwork: {host: 10.1.2.1/30, guest: 10.1.2.2}\n", "vm_tiny", "10.1.2.1/30", "10.1.2.2", false},
		{"name: tiny\nnetwork: {guest: 192.168.100.9}\n", "vm_tiny", "192.168.100.1/24", "192.168.100.9", false},
	} {
		r, err := Parse("a.yaml", []byte(tt.text+anyBase))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if n := r.Network; n.TAP != tt.tap || n.Host != tt.host || n.Guest != tt.guest || n.AddressUnset != tt.unset {
			t.Errorf("%s: %+v", tt.text, n)
		}
	}
	r, err := Parse("a.yaml", []byte(minimal+"postgres: {enabled: true}\nnetwork: {group: home}\n"))
	if err != nil || r.Network.Group != "home" || !slices.Contains(r.Postgres.Networks, NetworkPeers) {
		t.Errorf("a group: %v, %+v", err, r)
	}
	if _, err := Parse("a.yaml", []byte(minimal+"network: {group: ../x}\n")); err == nil {
		t.Error("a group's name is not checked")
	}
}
