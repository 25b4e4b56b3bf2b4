package recipe

import (
	"fmt"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

const anyBase = "base:\n  image: docker.io/library/alpine:3.22\n"

// TestNames: an accepted machine name requires no other key.
func TestNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		r, err := Parse("a.yaml", fmt.Appendf(nil, "name: %q\n%s", name, anyBase))
		if err == nil && !guestspec.ValidHostname(r.Network.Hostname) {
			t.Errorf("%q: the guest refuses its host name %q", name, r.Network.Hostname)
		}
		if err == nil && len(r.Rootfs.Label) > 16 {
			t.Errorf("%q: ext4 has no room for its label %q", name, r.Rootfs.Label)
		}
		return err
	})
}

func TestPeers(t *testing.T) {
	nametest.Run(t, func(name string) error {
		_, err := Parse("a.yaml", fmt.Appendf(nil, "name: this\n%snetwork:\n  peers: [%q]\n", anyBase, name))
		return err
	})
}

// TestHostnameOfName: a host name in a recipe must satisfy the guest's rule, even if it is the
// machine's name.
func TestHostnameOfName(t *testing.T) {
	if _, err := Parse("a.yaml", []byte("name: a-\n"+anyBase+"network:\n  hostname: a-\n")); err == nil {
		t.Error("the guest refuses the host name a-")
	}
}
