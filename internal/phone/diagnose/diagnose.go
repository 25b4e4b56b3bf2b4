package diagnose

import (
	"context"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// Layers, each before those that stand on it, as the Check of a finding names them.
const (
	Process      = "process"
	TAP          = network.LayerTAP
	Routing      = network.LayerRouting
	Forwarding   = network.LayerForwarding
	GuestNetwork = "guest-network"
	GuestClock   = "guest-clock"
	Tailscale    = "tailscale"
	Postgres     = "postgres"
	Services     = "services"
)

// titles are the layers' names for people, in their order.
var titles = []struct{ layer, title string }{
	{Process, "VM process"}, {TAP, "TAP interface"}, {Routing, "policy routing"}, {Forwarding, "NAT and forwarding"},
	{GuestNetwork, "guest network"}, {GuestClock, "guest clock"}, {Tailscale, "Tailscale"}, {Postgres, "PostgreSQL"},
	{Services, "services"},
}

// standsOn are the layers without which one cannot be whole.
var standsOn = map[string][]string{
	TAP:          {Process},
	Routing:      {Process},
	Forwarding:   {Process},
	GuestNetwork: {Process, TAP, Routing}, // the phone's own packets to the guest meet the rules as well
	GuestClock:   {Process, TAP, Routing, GuestNetwork},
	Tailscale:    {Process, TAP, Routing, Forwarding, GuestNetwork, GuestClock},
	Postgres:     {Process, TAP, Routing, GuestNetwork},
	Services:     {Process, TAP, Routing, GuestNetwork, Postgres}, // most that fail beside a database fail for want of it
}

// Sources is where a diagnosis learns how things are. Each call is bounded in time by its
// implementation.
type Sources interface {
	// Status is the machine's state with what its guest says, see daemon.Status.
	Status(ctx context.Context) (*health.Machine, error)
	// Network compares the phone's network with what the machine wants of it, see
	// network.Host.Check.
	Network(ctx context.Context) (network.Uplink, []finding.Finding, error)
	// Reach connects to the guest's endpoint over the TAP interface.
	Reach(ctx context.Context) error
	// Postgres asks the guest's server, over the TAP interface, whether it speaks PostgreSQL's
	// protocol. It returns ErrNoPostgres when the machine has none.
	Postgres(ctx context.Context) error
	// Now is the phone's clock.
	Now() time.Time
}

// Run looks at every layer, and returns the machine's status with the layers and the first that
// failed. Where PostgreSQL does not answer although the guest has just said that it is ready, Run
// looks once more: the guest may have stopped answering in between, and then the cause is beneath.
func Run(ctx context.Context, name string, s Sources) *health.Machine {
	m, doubtful := once(ctx, name, s)
	if doubtful {
		m, _ = once(ctx, name, s)
	}
	return m
}

// once looks at every layer; doubtful reports that PostgreSQL does not answer although the guest
// says that it is ready.
func once(ctx context.Context, name string, s Sources) (m *health.Machine, doubtful bool) {
	before := s.Now()
	status, err := s.Status(ctx)
	look := &looker{ctx: ctx, sources: s, status: status, fault: err, before: before, after: s.Now()}
	if look.networked() {
		look.uplink, look.network, look.networkFault = s.Network(ctx)
	}
	layers := []finding.Finding{look.process(), look.tap(), look.routing(), look.forwarding(), look.guestNetwork(), look.guestClock(), look.tailscale(), look.postgres(), look.services()}
	m = status
	if err != nil {
		m = health.New(name)
	}
	m.Cause = ""
	failed := map[string]bool{}
	for i := range layers {
		f := &layers[i]
		f.Check, f.Title = titles[i].layer, titles[i].title
		if f.Verdict == finding.Failed || f.Verdict == finding.Unknown {
			f.ConsequenceOf = firstFailed(f.Check, failed)
		}
		if f.Verdict == finding.Failed {
			failed[f.Check] = true
			if m.Cause == "" {
				m.Cause = f.Check
			}
		}
	}
	m.Layers = layers
	return m, look.doubtful
}

// firstFailed is the first failed layer that a layer stands on, or "".
func firstFailed(layer string, failed map[string]bool) string {
	for _, below := range standsOn[layer] {
		if failed[below] {
			return below
		}
	}
	return ""
}
