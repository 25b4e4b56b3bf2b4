package recipe

import (
	"crypto/sha256"
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// completeAddress sets missing addresses of the link, and joins the recipe's group.
func (r *Recipe) completeAddress() {
	n := &r.Network
	setDefault(&n.TAP, tapOf(r.Name))
	if n.Host == "" && n.Guest == "" {
		n.AddressUnset = true
	}
	setDefault(&n.Host, vmspec.FirstHost.String())
	setDefault(&n.Guest, vmspec.FirstHost.Addr().Next().String())
	if n.Group != "" {
		r.Join(n.Group, nil)
	}
}

// Join adds the recipe's machine to a group. It starts after some machines of the group, and the
// group's machines may log in to its database.
func (r *Recipe) Join(group string, after []string) {
	r.Network.Group, r.Network.After = group, after
	if r.Postgres.Enabled {
		r.Postgres.Networks = addOnce(r.Postgres.Networks, NetworkPeers)
	}
}

// maxInterface is the longest name of an interface (IFNAMSIZ of the kernel, without the NUL).
const maxInterface = 15

// tapOf returns the default TAP interface of a machine. A long name is shortened and ends with a
// digest.
func tapOf(name string) string {
	tap := "vm_" + name
	if len(tap) <= maxInterface {
		return tap
	}
	digest := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s_%x", tap[:maxInterface-5], digest[:2])
}

// group checks network.group.
func (c *checker) group() {
	if c.Network.Group != "" {
		c.check("network.group", artifact.CheckName(c.Network.Group))
	}
}
