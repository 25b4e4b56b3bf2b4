//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// prepareTailscale is the step before tailscaled's start, if its state is in a file.
func prepareTailscale(_ context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	flags := newFlags("tailscale-prepare", stderr)
	state := flags.String("state", "", "the `file` with tailscaled's state")
	if err := parse(flags, args); err != nil {
		return err
	}
	host, err := os.ReadFile(guestspec.HostFile)
	if err != nil {
		return err
	}
	key, err := readKey(stdin)
	if err != nil {
		return err
	}
	return tailnet.Prepare(*state, string(host), key, stderr)
}

func readKey(stdin io.Reader) (string, error) {
	key, err := io.ReadAll(io.LimitReader(stdin, guestspec.MaxSecret)) // no secret is longer
	if err != nil {
		return "", fmt.Errorf("read the auth key: %w", err)
	}
	return strings.TrimSpace(string(key)), nil
}

// upTailscale is the step after tailscaled's start: it joins the node, or updates its name.
func upTailscale(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	var node tailnet.Node
	flags := newFlags("tailscale-up", stderr)
	socket := flags.String("socket", "", "the `path` of tailscaled's socket")
	flags.StringVar(&node.Hostname, "hostname", "", "the `name` on the tailnet")
	flags.StringVar(&node.LoginServer, "login-server", "", "the control server's `URL`; Tailscale's own if empty")
	tags := flags.String("advertise-tags", "", "`tags` to ask for, with commas between")
	flags.StringVar(&node.State, "state", "", "the `file` with tailscaled's state; empty: it is in memory")
	if err := parse(flags, args, "login-server", "advertise-tags", "state"); err != nil {
		return err
	}
	if *tags != "" {
		node.Tags = strings.Split(*tags, ",")
	}
	var err error
	if node.AuthKey, err = readKey(stdin); err != nil {
		return err
	}
	did, err := tailnet.NewClient(*socket).Up(ctx, node)
	if did != "" && err == nil {
		fmt.Fprintln(stderr, did)
	}
	return err
}
