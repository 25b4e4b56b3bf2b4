package vmspec

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		s := example()
		s.Name = name
		return s.Validate()
	})
}

func TestPeers(t *testing.T) {
	nametest.Run(t, func(name string) error {
		s := example()
		s.Network.Peers = []string{name}
		return s.Validate()
	})
	nametest.Run(t, func(name string) error {
		s := example()
		s.Network.After = []string{name}
		return s.Validate()
	})
}

// TestInterfaceNames: an interface name must fit the kernel's IFNAMSIZ, which is 16 with the NUL.
func TestInterfaceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"vm_sql": true, "a": true, "vm-1.x": true, "fifteen_bytes_x": true,
		"": false, "sixteen_bytes_xx": false, "a b": false, "a/b": false, "a:b": false, "ä": false, ".": false, "..": false,
	} {
		s := example()
		s.Network.TAP = name
		if err := s.Validate(); (err == nil) != want {
			t.Errorf("%q: %v, want accepted: %t", name, err, want)
		}
	}
}
