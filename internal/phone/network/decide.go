package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A Decision is how a machine is routed that leaves the choice to the host.
type Decision struct {
	Routing Routing
	Reason  string // for people
}

// Decide brings the network up for a machine and finds out which mode carries: Scoped, or, where no
// answer comes back in that one and one does in MainFirst, MainFirst. Where it cannot tell, for
// want of an uplink or of an answer in either mode, it is Scoped. For vm.Routing other than Auto,
// it is that. The TAP interface must not be open: Decide sends as the guest would.
func (h *Host) Decide(ctx context.Context, vm VM) (Decision, Report, error) {
	if vm.Routing != Auto {
		report, err := h.Up(ctx, vm)
		return Decision{vm.Routing, "the recipe or the settings say so"}, report, err
	}
	try := func(routing Routing) (Report, error, error) {
		vm.Routing = routing
		report, err := h.Up(ctx, vm)
		if err != nil || report.Uplink.Interface == "" {
			return report, nil, err
		}
		return report, h.roundTrip(ctx, vm), nil
	}
	report, lost, err := try(Scoped)
	switch {
	case err != nil:
		return Decision{}, report, err
	case report.Uplink.Interface == "":
		return Decision{Scoped, "not checked: there is no uplink yet"}, report, nil
	case lost == nil:
		return Decision{Scoped, "checked: an answer came back by " + report.Uplink.Interface}, report, nil
	case !errors.Is(lost, errNoAnswer):
		return Decision{Scoped, fmt.Sprintf("not checked: %v", lost)}, report, nil
	}
	first, alsoLost, err := try(MainFirst)
	report.Changed = append(report.Changed, first.Changed...)
	if err != nil {
		return Decision{}, report, err
	}
	if alsoLost == nil && first.Uplink.Interface != "" {
		report.Uplink = first.Uplink
		return Decision{MainFirst, "in the mode scoped no answer came back, in this one it did"}, report, nil
	}
	vm.Routing = Scoped
	last, err := h.Up(ctx, vm)
	report.Changed = append(report.Changed, last.Changed...)
	report.Uplink = last.Uplink
	return Decision{Scoped, "not checked: no answer came back in either mode"}, report, err
}

// standingRouting is the mode whose rules stand.
func standingRouting(vm VM) (Routing, error) {
	rules, err := markedRules()
	if slices.Contains(rules, rule{Priority: 1, Table: unix.RT_TABLE_MAIN}) && !slices.Contains(rules, rule{Priority: 1, Table: unix.RT_TABLE_MAIN, Prefix: vm.Subnet()}) {
		return MainFirst, err
	}
	return Scoped, err
}
