package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact"
)

func (h *Host) emptyLedger() *ledger {
	return &ledger{Format: ledgerFormat, BootID: h.bootID, Uplinks: map[string]Uplink{}}
}

// A remnant is a machine's TAP interface that stands without a ledger.
type remnant struct {
	owner, tap string
	subnets    []netip.Prefix
}

// rebuild makes a ledger, where there is none, of what the network has with our marks: interfaces by their alias, which
// names the machine, chains by their name, rules and routes by their protocol. What tells nothing of its machine is
// entered for all of them, and for name, which is about to come or go.
func (h *Host) rebuild(name string) (*ledger, error) {
	remnants, err := findRemnants()
	if err != nil {
		return nil, err
	}
	l := h.emptyLedger()
	add := func(t thing, owners ...string) {
		l.Entries = append(l.Entries, entry{thing: t, Owners: slices.Clone(owners)})
	}
	machines := []string{name}
	for _, r := range remnants {
		add(thing{Kind: kindTAP, Link: r.tap}, r.owner)
		if !slices.Contains(machines, r.owner) {
			machines = append(machines, r.owner)
		}
	}
	for _, m := range machines {
		for _, t := range allChains(m) {
			exists, err := h.exists(t)
			if err != nil {
				return nil, err
			}
			if exists {
				add(t, m)
			}
		}
	}
	routes, err := markedRoutes()
	if err != nil {
		return nil, err
	}
	for _, t := range routes {
		owners := machines
		for _, r := range remnants {
			if t.Kind == kindRule && (t.Link == r.tap || slices.Contains(r.subnets, t.Prefix)) {
				owners = []string{r.owner}
			}
		}
		add(t, owners...)
	}
	return l, nil
}

func findRemnants() ([]remnant, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var out []remnant
	for _, link := range links {
		owner, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix)
		if _, tap := link.(*netlink.Tuntap); !tap || !ours || !artifact.ValidName(owner) {
			continue
		}
		r := remnant{owner: owner, tap: link.Attrs().Name}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", r.tap, err)
		}
		for _, a := range addresses {
			r.subnets = append(r.subnets, prefixOf(a.IPNet).Masked())
		}
		out = append(out, r)
	}
	return out, nil
}

// markedRoutes are the policy rules, and main's default routes, that have our protocols.
func markedRoutes() ([]thing, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read the policy rules: %w", err)
	}
	var out []thing
	for _, r := range rules {
		if r.Protocol == protoEverything || r.Protocol == protoScoped {
			out = append(out, thing{Kind: kindRule, Priority: r.Priority, Table: r.Table, Prefix: prefixOf(r.Dst), Link: r.IifName})
		}
	}
	routes, err := defaultRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err == nil && r.Protocol == protoEverything {
			out = append(out, thing{Kind: kindRoute, Table: unix.RT_TABLE_MAIN, Link: link.Attrs().Name, Gateway: gatewayOf(r)})
		}
	}
	return out, nil
}
