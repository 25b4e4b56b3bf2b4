package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// Bits of a packet's mark (system/netd/include/Fwmark.h).
const (
	explicitMark  = 0x10000 // the app has chosen the network
	protectedMark = 0x20000 // the app is the VPN itself
	localNetID    = 99
)

// takes returns which other traffic the mode MainFirst affects, with the phone's current networks,
// a line each: traffic of a VPN, the protection of a VPN lockdown, traffic of apps that have chosen
// a network. The mode Scoped does not affect any.
func takes(u Uplink) ([]string, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read the policy rules: %w", err)
	}
	var out []string
	say := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	for _, r := range rules {
		name := linkOf(r.Table)
		elsewhere := name != "" && name != u.Interface // a table without a default route does not route packets
		if r.Priority == tetheringPriority && elsewhere {
			say("routing main-first takes what clients of %s send by %s: it leaves by %s instead. Use network.routing: scoped", r.IifName, name, u)
		}
		if r.Mask == nil || r.IifName != "lo" || r.OifName != "" {
			continue
		}
		unprotected := r.Mark == 0 && *r.Mask&protectedMark != 0 && r.UIDRange != nil
		chosen := r.Mark&explicitMark != 0 && r.Mark&netIDMask != localNetID && r.UIDRange == nil
		switch {
		case unprotected && r.Table <= 0: // prohibited
			say("routing main-first bypasses the phone's lockdown: apps reach the internet without their VPN. Use network.routing: scoped")
		case unprotected && elsewhere:
			say("routing main-first takes the traffic of the VPN on %s: it leaves by %s instead. Use network.routing: scoped", name, u)
		case chosen && elsewhere:
			say("routing main-first takes what apps or the system send by %s, which they chose: it leaves by %s instead. Use network.routing: scoped", name, u)
		}
	}
	return out, nil
}

// Foresee returns which other traffic on the phone a machine would affect if it were started now, a
// sentence each.
func Foresee(vm VM) ([]string, error) {
	if vm.Routing != MainFirst {
		return nil, nil
	}
	u, err := findUplink(vm.Uplink)
	if errors.Is(err, ErrNoUplink) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return takes(u)
}

// linkOf returns the interface of a routing table's default route, or "".
func linkOf(table int) string {
	if table <= 0 {
		return ""
	}
	routes, err := defaultRoutes(table)
	if err != nil || len(routes) == 0 {
		return ""
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}
