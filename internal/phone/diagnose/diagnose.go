package diagnose

import (
	"context"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// A Layer is one of the eight.
type Layer string

// Layers, each before those that stand on it.
const (
	Process      Layer = "process"
	TAP          Layer = "tap"
	Routing      Layer = "routing"
	Forwarding   Layer = "forwarding"
	GuestNetwork Layer = "guest-network"
	GuestClock   Layer = "guest-clock"
	Tailscale    Layer = "tailscale"
	Postgres     Layer = "postgres"
)

// titles are the layers' names for people, in their order.
var titles = []struct {
	layer Layer
	title string
}{
	{Process, "VM process"}, {TAP, "TAP interface"}, {Routing, "policy routing"}, {Forwarding, "NAT and forwarding"},
	{GuestNetwork, "guest network"}, {GuestClock, "guest clock"}, {Tailscale, "Tailscale"}, {Postgres, "PostgreSQL"},
}

// standsOn are the layers without which one cannot be whole.
var standsOn = map[Layer][]Layer{
	TAP:          {Process},
	Routing:      {Process},
	Forwarding:   {Process},
	GuestNetwork: {Process, TAP, Routing}, // the phone's own packets to the guest meet the rules as well
	GuestClock:   {Process, TAP, Routing, GuestNetwork},
	Tailscale:    {Process, TAP, Routing, Forwarding, GuestNetwork, GuestClock},
	Postgres:     {Process, TAP, Routing, GuestNetwork},
}

// A Verdict is how a layer is.
type Verdict string

// Verdicts.
const (
	OK      Verdict = "ok"
	Broken  Verdict = "broken"
	Unknown Verdict = "unknown" // it cannot be looked at while another layer is broken
	Off     Verdict = "off"     // the machine does without it
)

// A Result is what was found of a layer.
type Result struct {
	Layer         Layer   `json:"layer"`
	Title         string  `json:"title"`
	Verdict       Verdict `json:"verdict"`
	Checked       string  `json:"checked"`                  // what was looked at
	Found         string  `json:"found"`                    // what was seen
	Cause         string  `json:"cause,omitempty"`          // the most likely one, and what to do; where Verdict is Broken
	Fixable       bool    `json:"fixable,omitempty"`        // --fix repairs it
	ConsequenceOf Layer   `json:"consequence_of,omitempty"` // the broken layer that it stands on
}

// A Report is what was found of a machine.
type Report struct {
	Name   string   `json:"name"`
	Cause  Layer    `json:"cause,omitempty"` // the first broken layer; empty: none is
	Layers []Result `json:"layers"`          // all eight, in their order
	Fixed  []string `json:"fixed,omitempty"` // what --fix did
}

// Broken tells whether any layer is.
func (r Report) Broken() bool { return r.Cause != "" }

// Sources is where a diagnosis learns how things are. Each call is bounded in time by its implementation.
type Sources interface {
	// Status is the machine's state with what its guest says, see runner.Status.
	Status(ctx context.Context) (*runnerapi.Status, error)
	// Network compares the phone's network with what the machine wants of it, see hostnet.Host.Check.
	Network(ctx context.Context) (network.Uplink, []network.Finding, error)
	// Reach connects to the guest's endpoint over the TAP interface.
	Reach(ctx context.Context) error
	// Postgres asks the guest's server, over the TAP interface, whether it speaks PostgreSQL's protocol. It returns
	// ErrNoPostgres when the machine has none.
	Postgres(ctx context.Context) error
	// Now is the phone's clock.
	Now() time.Time
}

// Run looks at every layer. Where PostgreSQL is silent that the guest has just said to be ready, it looks once more: the
// guest may have gone silent in between, and then the cause is beneath.
func Run(ctx context.Context, name string, s Sources) Report {
	report, doubtful := once(ctx, name, s)
	if doubtful {
		report, _ = once(ctx, name, s)
	}
	return report
}

// once looks at every layer; doubtful tells that PostgreSQL is silent against the guest's word.
func once(ctx context.Context, name string, s Sources) (report Report, doubtful bool) {
	before := s.Now()
	status, err := s.Status(ctx)
	look := &looker{ctx: ctx, sources: s, status: status, fault: err, before: before, after: s.Now()}
	if look.networked() {
		look.uplink, look.network, look.networkFault = s.Network(ctx)
	}
	results := []Result{look.process(), look.tap(), look.routing(), look.forwarding(), look.guestNetwork(), look.guestClock(), look.tailscale(), look.postgres()}
	report = Report{Name: name, Layers: results}
	broken := map[Layer]bool{}
	for i := range results {
		r := &results[i]
		r.Layer, r.Title = titles[i].layer, titles[i].title
		if r.Verdict == Broken || r.Verdict == Unknown {
			r.ConsequenceOf = firstBroken(r.Layer, broken)
		}
		if r.Verdict == Broken {
			broken[r.Layer] = true
			if report.Cause == "" {
				report.Cause = r.Layer
			}
		}
	}
	return report, look.doubtful
}

// firstBroken is the first broken layer that a layer stands on, or "".
func firstBroken(layer Layer, broken map[Layer]bool) Layer {
	for _, below := range standsOn[layer] {
		if broken[below] {
			return below
		}
	}
	return ""
}
