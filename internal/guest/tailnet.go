//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
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

// tailnetStatus is the tailnet's part of the status, nil where the image has no Tailscale.
func (m *machine) tailnetStatus(ctx context.Context, services []guestapi.Service) *guestapi.Tailnet {
	spec, service := m.describedService(guestspec.ServiceTailscale, services)
	if spec == nil || spec.Ready.Unix == "" {
		return nil
	}
	if service.State == guestapi.StateOff {
		return &guestapi.Tailnet{State: guestapi.TailnetOff, Fault: service.Reason + ": to join a tailnet, set the secret tailscale to an auth key and restart"}
	}
	status, err := tailnet.NewClient(spec.Ready.Unix).Status(ctx)
	if err != nil {
		fault := err.Error()
		if service.State != guestapi.StateReady {
			fault = fmt.Sprintf("tailscaled is %s: %s", service.State, service.Reason)
		}
		return &guestapi.Tailnet{State: tailnet.StateNoState, Fault: journal.Redact(m.config.Secrets, fault)}
	}
	_, hasKey := m.config.Secrets[guestspec.ServiceTailscale]
	told := describeTailnet(status, hasKey)
	told.Fault = journal.Redact(m.config.Secrets, told.Fault)
	return &told
}

// describeTailnet puts into the endpoint's words what tailscaled says of itself.
func describeTailnet(s *tailnet.Status, hasKey bool) guestapi.Tailnet {
	t := guestapi.Tailnet{State: s.State, Fault: tailnetFault(s, hasKey)}
	if s.Self == nil {
		return t
	}
	t.Hostname, t.Online = s.Self.Name(), s.Self.Online
	for _, address := range s.Self.TailscaleIPs {
		t.Addresses = append(t.Addresses, address.String())
	}
	if s.Self.KeyExpiry != nil {
		t.KeyExpiry = *s.Self.KeyExpiry
	}
	return t
}

// tailnetFault says what keeps the node from its tailnet, and what to do.
func tailnetFault(s *tailnet.Status, hasKey bool) string {
	said := ""
	if len(s.Health) > 0 {
		said = "; tailscaled says: " + strings.Join(s.Health, "; ")
	}
	switch {
	case s.State == tailnet.StateNeedsMachineAuth:
		return "the node waits for an administrator of the tailnet to approve it"
	case s.State == tailnet.StateStopped:
		return "the node was taken off its tailnet by hand: `tailscale up` brings it back"
	case s.State == tailnet.StateNeedsLogin && s.HaveNodeKey:
		return "the tailnet does not take the node's key any more (it has expired, or the machine was removed): renew it in the tailnet's " +
			"administration, or remove /data/tailscale/tailscaled.state and give a new auth key as the secret tailscale" + said
	case s.State == tailnet.StateNeedsLogin && !hasKey:
		return "the node has not joined and there is no auth key: set the secret tailscale and restart"
	case s.State == tailnet.StateNeedsLogin:
		return "the node has not joined yet: the auth key may be used up, expired or wrong, or the control server out of reach" + said
	case s.State == tailnet.StateNoState:
		return "the node waits for the control server to answer" + said
	case s.State == tailnet.StateRunning && (s.Self == nil || !s.Self.Online):
		return "the control server is not heard of" + said
	}
	return ""
}

// describedService finds the named service's description and state.
func (m *machine) describedService(name string, services []guestapi.Service) (*guestspec.Service, guestapi.Service) {
	for i := range m.spec.Services {
		if m.spec.Services[i].Name != name {
			continue
		}
		for _, s := range services {
			if s.Name == name {
				return &m.spec.Services[i], s
			}
		}
	}
	return nil, guestapi.Service{}
}
