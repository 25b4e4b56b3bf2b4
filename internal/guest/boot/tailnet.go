//go:build linux

package boot

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// Intervals between checks of the node: until it is on the tailnet, and afterwards.
const tailnetLook, tailnetRest = 5 * time.Second, time.Minute

// tailnetState returns the path of tailscaled's state, or "" if the state is in memory.
func tailnetState(tailscale *guestspec.Service) string {
	const flag = "--state="
	i := slices.IndexFunc(tailscale.Command, func(arg string) bool { return strings.HasPrefix(arg, flag+"/") })
	if i < 0 {
		return ""
	}
	return strings.TrimPrefix(tailscale.Command[i], flag)
}

// tailscale is the description of tailscaled; nil where the machine has none.
func (m *machine) tailscale() *guestspec.Service {
	i := slices.IndexFunc(m.spec.Services, func(s guestspec.Service) bool {
		return s.Name == guestspec.ServiceTailscale && s.Ready.Unix != ""
	})
	if i < 0 {
		return nil
	}
	return &m.spec.Services[i]
}

// authKey returns the machine's auth key.
func (m *machine) authKey() string {
	return strings.TrimSpace(m.config.Secrets[guestspec.ServiceTailscale])
}

// writeHost writes the ID of the phone or computer, for the steps.
func (m *machine) writeHost() error {
	return os.WriteFile(guestspec.HostFile, []byte(m.config.Host), 0o644)
}

// watchTailnet monitors the machine's node. If the node must log in again, it uses an auth key that
// was not used before. Pauses between attempts double.
func (m *machine) watchTailnet(ctx context.Context) {
	spec := m.tailscale()
	if spec == nil || tailnetState(spec) == "" {
		return
	}
	client, pause := tailnet.NewClient(spec.Ready.Unix), tailnetLook
	var next time.Time // not to log in before
	between := tailnetRest
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		asking, cancel := context.WithTimeout(ctx, tailnetLook)
		again, settled, err := client.Watch(asking, tailnetState(spec), m.authKey())
		if err == nil && settled {
			m.nameNodes(asking, client, spec.Name)
			m.lookForTwin(asking, client, spec.Name)
		}
		cancel()
		if pause = tailnetLook; settled {
			pause = tailnetRest
		}
		if err != nil || !again || time.Now().Before(next) { // tailscaled may be off, or on its way up
			continue
		}
		next, between = time.Now().Add(between), 2*between
		if err := m.supervisor.Repeat(ctx, spec.Name); err != nil {
			m.console.Log(journal.Warn, spec.Name, "the node could not be told to log in again", "error", err)
		}
	}
}

// lookForTwin warns if there is another machine that runs as this node.
func (m *machine) lookForTwin(ctx context.Context, client *tailnet.Client, service string) {
	before := m.twin.Warning()
	if err := m.twin.Look(ctx, client); err != nil {
		m.console.Log(journal.Warn, service, "cannot check for another machine that runs as this node", "error", err)
	}
	if now := m.twin.Warning(); now != before && now != "" {
		m.console.Log(journal.Warn, service, now)
	}
}

// nameNodes updates the names of the tailnet's nodes in /etc/hosts.
func (m *machine) nameNodes(ctx context.Context, client *tailnet.Client, service string) {
	nodes, err := client.Nodes(ctx)
	if err == nil {
		err = m.setNodes(nodes)
	}
	if err != nil {
		m.console.Log(journal.Warn, service, "the names of the tailnet's nodes are not known", "error", err)
	}
}
