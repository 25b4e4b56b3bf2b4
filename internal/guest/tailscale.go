//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// upTailscale is the step after tailscaled's start: the node joins if it has not, or gets its name.
func upTailscale(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	var node tailnet.Node
	flags := newFlags("tailscale-up", stderr)
	socket := flags.String("socket", "", "the `path` of tailscaled's socket")
	flags.StringVar(&node.Hostname, "hostname", "", "the `name` on the tailnet")
	flags.StringVar(&node.LoginServer, "login-server", "", "the control server's `URL`; Tailscale's own if empty")
	tags := flags.String("advertise-tags", "", "`tags` to ask for, with commas between")
	if err := parse(flags, args, "login-server", "advertise-tags"); err != nil {
		return err
	}
	if *tags != "" {
		node.Tags = strings.Split(*tags, ",")
	}
	key, err := io.ReadAll(io.LimitReader(stdin, guestspec.MaxSecret)) // no secret is longer
	if err != nil {
		return fmt.Errorf("read the auth key: %w", err)
	}
	node.AuthKey = strings.TrimSpace(string(key))
	did, err := tailnet.NewClient(*socket).Up(ctx, node)
	if did != "" && err == nil {
		fmt.Fprintln(stderr, did)
	}
	return err
}
