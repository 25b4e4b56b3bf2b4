package tailnet

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// Names returns this node's name on its tailnet, without and with the tailnet's domain, or nil
// before it has joined.
func (c *Client) Names(ctx context.Context) []string {
	status, err := c.status(ctx)
	if err != nil || status.Self == nil {
		return nil
	}
	full := status.Self.fullName()
	name, domain, _ := strings.Cut(full, ".")
	if domain == "" {
		return nil
	}
	return []string{name, full}
}

// maxNodes limits the result of Nodes: every lookup reads all of them.
const maxNodes = 1000

// Nodes returns the names and addresses of the tailnet's other nodes, in order, where the tailnet
// has names (MagicDNS): each node's name with the tailnet's domain, and the name alone. The names
// come from the control server, so it skips invalid host names.
func (c *Client) Nodes(ctx context.Context) ([]configdisk.Host, error) {
	var status struct {
		CurrentTailnet struct{ MagicDNSEnabled bool }
		Peer           map[string]struct {
			DNSName      string
			TailscaleIPs []netip.Addr
		}
	}
	if err := c.do(ctx, http.MethodGet, "status", nil, &status); err != nil || !status.CurrentTailnet.MagicDNSEnabled {
		return nil, err
	}
	odd := func(label string) bool { return !guestspec.ValidHostname(label) }
	var hosts []configdisk.Host
	for _, peer := range status.Peer {
		full := strings.TrimSuffix(peer.DNSName, ".")
		labels := strings.Split(full, ".")
		if len(labels) < 2 || slices.ContainsFunc(labels, odd) {
			continue
		}
		for _, address := range peer.TailscaleIPs {
			hosts = append(hosts, configdisk.Host{Name: full, Address: address}, configdisk.Host{Name: labels[0], Address: address})
		}
	}
	slices.SortFunc(hosts, func(a, b configdisk.Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return hosts[:min(len(hosts), 4*maxNodes)], nil // two names, two addresses
}
