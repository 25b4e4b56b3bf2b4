package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// Bits of a packet's mark (system/netd/include/Fwmark.h).
const (
	explicitMark  = 0x10000 // its app has chosen the network
	protectedMark = 0x20000 // its app is the VPN's own
	localNetID    = 99
)

// takes tells what the mode MainFirst takes from others on the phone as it is connected now, a line
// each: the traffic of a VPN, the protection of a lockdown, what apps send by a network that they
// have chosen. The other mode takes nothing.
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
		elsewhere := name != "" && name != u.Interface // a table without a default route takes no packets
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

// Foresee is what a machine would take from others on the phone if it were started now, a sentence
// each.
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

// linkOf names the interface of a routing table's default route; "" where it has none.
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
