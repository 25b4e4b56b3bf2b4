package diagnose

import (
	"context"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// Layers, in the order of their dependencies. They are the values of Check in findings.
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

// titles are the layers' titles, in order.
var titles = []struct{ layer, title string }{
	{Process, "VM process"}, {TAP, "TAP interface"}, {Routing, "policy routing"}, {Forwarding, "NAT and forwarding"},
	{GuestNetwork, "guest network"}, {GuestClock, "guest clock"}, {Tailscale, "Tailscale"}, {Postgres, "PostgreSQL"},
	{Services, "services"},
}

// standsOn lists the layers on which a layer depends.
var standsOn = map[string][]string{
	TAP:          {Process},
	Routing:      {Process},
	Forwarding:   {Process},
	GuestNetwork: {Process, TAP, Routing}, // the rules also apply to the phone's own packets to the guest
	GuestClock:   {Process, TAP, Routing, GuestNetwork},
	Tailscale:    {Process, TAP, Routing, Forwarding, GuestNetwork, GuestClock},
	Postgres:     {Process, TAP, Routing, GuestNetwork},
	Services:     {Process, TAP, Routing, GuestNetwork, Postgres}, // most services fail if the database does
}

// Sources provides the data of a diagnosis. The implementation limits the time of each call.
type Sources interface {
	// Status returns the machine's state with its guest's status, see daemon.Status.
	Status(ctx context.Context) (*health.Machine, error)
	// Network compares the phone's network with the machine's configuration, see
	// network.Host.Check.
	Network(ctx context.Context) (network.Uplink, []finding.Finding, error)
	// Reach connects to the guest's endpoint over the TAP interface.
	Reach(ctx context.Context) error
	// Postgres checks over the TAP interface that the guest's server speaks PostgreSQL's protocol.
	// It returns ErrNoPostgres if the machine does not have PostgreSQL.
	Postgres(ctx context.Context) error
	// Now is the phone's clock.
	Now() time.Time
}

// Run checks every layer, and returns the machine's status with the layers and the first that
// failed. If PostgreSQL does not answer although the guest has just reported it as ready, Run
// checks all layers once more: if the guest stopped answering in between, the cause is a lower
// layer.
func Run(ctx context.Context, name string, s Sources) *health.Machine {
	m, doubtful := once(ctx, name, s)
	if doubtful {
		m, _ = once(ctx, name, s)
	}
	return m
}

// once checks every layer; doubtful reports that PostgreSQL does not answer although the guest
// reports it as ready.
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

// firstFailed returns the first failed layer on which a layer depends, or "".
func firstFailed(layer string, failed map[string]bool) string {
	for _, below := range standsOn[layer] {
		if failed[below] {
			return below
		}
	}
	return ""
}
