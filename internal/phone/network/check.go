package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Layers of the phone's network, from the guest outwards. They are the values of Check in findings.
const (
	LayerTAP        = "tap"
	LayerRouting    = "routing"
	LayerForwarding = "forwarding"
)

// broken returns the finding for a fault that Up repairs.
func broken(layer, found, cause string) finding.Finding {
	return finding.Finding{Check: layer, Verdict: finding.Failed, Found: found, Cause: cause, Fixable: true}
}

// obstructed returns the finding for a fault that the phone cannot repair.
func obstructed(layer, found, cause string) finding.Finding {
	f := broken(layer, found, cause)
	f.Fixable = false
	return f
}

// Check compares the network with vm's configuration, without changing it. It returns no findings
// if the network is as Up would set it up.
func (h *Host) Check(vm VM) (Uplink, []finding.Finding, error) {
	u, findings, err := h.check(vm)
	if err != nil {
		err = fmt.Errorf("check the network of %s: %w", vm.Name, err)
	}
	return u, findings, err
}

func (h *Host) check(vm VM) (Uplink, []finding.Finding, error) {
	if err := vm.validate(); err != nil {
		return Uplink{}, nil, err
	}
	unlock, err := h.lock(context.Background())
	if err != nil && !errors.Is(err, unix.EROFS) { // a read-only ledger does not need a lock
		return Uplink{}, nil, err
	}
	if err == nil {
		defer unlock()
	}
	h.tables.forget()
	if vm.Routing == Auto {
		if vm.Routing, err = standingRouting(vm); err != nil {
			return Uplink{}, nil, err
		}
	}
	var out []finding.Finding
	u, err := findUplink(vm.Uplink)
	if errors.Is(err, ErrNoUplink) {
		out = append(out, obstructed(LayerRouting, "no uplink", err.Error()+": connect the phone; the rest follows automatically"))
	} else if err != nil {
		return u, nil, err
	}
	tap, usable, err := h.checkTAP(vm)
	if err != nil {
		return u, nil, err
	}
	out = append(out, tap...)
	links, err := clashes(vm)
	if err != nil {
		return u, nil, err
	}
	for _, link := range links {
		out = append(out, obstructed(LayerTAP, fmt.Sprintf("%s has an address in %s, too", link.Attrs().Name, vm.Subnet()),
			"the phone is in a network with the machine's addresses: give the machine others, network.host and network.guest in its recipe"))
	}
	for _, r := range h.resources(vm, u) {
		if r == vm.tap() || !usable && slices.Contains(vm.onTAP(), r) {
			continue // checkTAP has reported it
		}
		exists, err := r.exists(h)
		if err != nil {
			return u, nil, err
		}
		if !exists {
			out = append(out, r.missing())
		}
	}
	if u.Interface != "" && vm.Routing == MainFirst {
		stale, err := staleDefaults(u)
		if err != nil {
			return u, nil, err
		}
		out = append(out, stale...)
	}
	chains, err := h.checkChains(vm, u)
	return u, append(out, chains...), err
}

// checkTAP checks the interface, and reports whether it exists and belongs to sov.
func (h *Host) checkTAP(vm VM) (out []finding.Finding, usable bool, err error) {
	link, err := findLink(vm.TAP)
	if err != nil {
		return nil, false, err
	}
	if link == nil {
		return []finding.Finding{vm.tap().missing()}, false, nil
	}
	attrs := link.Attrs()
	if err := vm.tap().checkOwner(vm.Name, false); err != nil {
		return []finding.Finding{obstructed(LayerTAP, err.Error(), "another program made an interface of this name")}, false, nil
	}
	if attrs.Flags&net.FlagUp == 0 {
		out = append(out, broken(LayerTAP, vm.TAP+" is down", "it was switched off (ip link set "+vm.TAP+" down)"))
	}
	if attrs.MTU != vm.MTU {
		out = append(out, broken(LayerTAP, fmt.Sprintf("%s has an MTU of %d bytes, not %d", vm.TAP, attrs.MTU, vm.MTU), "it was changed"))
	}
	if h.hasIPv6(vm.TAP) {
		out = append(out, broken(LayerTAP, vm.TAP+" has IPv6, which the machine's rules do not cover", "it was switched on"))
	}
	if attrs.Flags&net.FlagUp != 0 && !hasCarrier(attrs) {
		out = append(out, obstructed(LayerTAP, vm.TAP+" has no carrier", "no crosvm has it open: the machine does not run, or was started before the interface was re-created; restart it"))
	}
	return out, true, nil
}

// staleDefaults finds a default route in main that comes before the uplink's.
func staleDefaults(u Uplink) ([]finding.Finding, error) {
	routes, err := defaultRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, err
	}
	if len(routes) == 0 {
		return nil, nil // missing, which is reported elsewhere
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().Name == u.Interface && gatewayOf(routes[0]) == u.Gateway {
		return nil, nil
	}
	return []finding.Finding{broken(LayerRouting, fmt.Sprintf("the default route in main leaves by %s, the uplink is %s", link.Attrs().Name, u),
		"the uplink has just changed; while the daemon runs it is corrected within seconds")}, nil
}

// checkChains compares the rules of the chains and the jumps to them.
func (h *Host) checkChains(vm VM, u Uplink) ([]finding.Finding, error) {
	var out []finding.Finding
	for _, c := range h.chains(vm, u) {
		have, err := h.tables.content(c.Table, c.Name)
		if err != nil {
			return nil, err
		}
		jumps, err := h.tables.jumps(c.Table, c.From, c.Name)
		if err != nil {
			return nil, err
		}
		exists, err := c.exists(h)
		if err != nil {
			return nil, err
		}
		switch {
		case !exists: // already reported
		case len(have) == 0 && len(c.rules) > 0:
			out = append(out, broken(LayerForwarding, c.String()+" is empty", "it was flushed (iptables -F)"))
		case !slices.EqualFunc(have, c.rules, sameRule):
			out = append(out, broken(LayerForwarding, c.String()+" holds other rules than it should", "the uplink has just changed, or it was edited"))
		}
		switch {
		case !exists:
		case jumps.count == 0:
			out = append(out, broken(LayerForwarding, fmt.Sprintf("%s does not jump to %s", c.From, c.Name), c.From+" was flushed, or netd rebuilt it"))
		case !jumps.inPlace():
			out = append(out, broken(LayerForwarding, fmt.Sprintf("the jump from %s to %s is not at the top, or there are several", c.From, c.Name),
				"netd or another program put rules above it, which may drop the guest's packets"))
		}
	}
	return out, nil
}
