package tailnet

import (
	"context"
	"strings"
)

// Names returns what this node is called on its tailnet: its name, and the name with the tailnet's
// domain. They are none before it has joined.
func (c *Client) Names(ctx context.Context) []string {
	status, err := c.status(ctx)
	if err != nil || status.Self == nil {
		return nil
	}
	full := strings.TrimSuffix(status.Self.DNSName, ".")
	name, domain, _ := strings.Cut(full, ".")
	if domain == "" {
		return nil
	}
	return []string{name, full}
}
