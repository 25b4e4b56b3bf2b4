package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A Decision is the routing mode of a machine with Routing Auto.
type Decision struct {
	Routing Routing
	Reason  string // for people
}

// Decide brings the network up for a machine and chooses a mode. It is MainFirst if answers come
// back in MainFirst but not in Scoped, and Scoped otherwise, also without an uplink or without an
// answer in either mode. If vm.Routing is not Auto, it is vm.Routing. The TAP interface must not be
// open: Decide sends packets in place of the guest.
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

// standingRouting returns the mode of the existing rules.
func standingRouting(vm VM) (Routing, error) {
	rules, err := markedRules()
	if slices.Contains(rules, rule{Priority: 1, Table: unix.RT_TABLE_MAIN}) && !slices.Contains(rules, rule{Priority: 1, Table: unix.RT_TABLE_MAIN, Prefix: vm.Subnet()}) {
		return MainFirst, err
	}
	return Scoped, err
}
