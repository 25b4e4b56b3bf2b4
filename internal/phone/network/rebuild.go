package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/sovereign-sql/sov/internal/artifact"
)

func (h *Host) emptyLedger() *ledger {
	return &ledger{Format: ledgerFormat, BootID: h.bootID, Uplinks: map[string]Uplink{}}
}

// A remnant is a machine's TAP interface without a ledger.
type remnant struct {
	owner, tap string
	subnets    []netip.Prefix
}

// rebuild makes a missing ledger from the resources with sov's marks: interfaces by their alias,
// which names the machine, chains by their name, rules and routes by their protocol. A resource
// without a machine's name is entered for all machines, and for name, which is about to be set up
// or removed.
func (h *Host) rebuild(name string) (*ledger, error) {
	remnants, err := findRemnants()
	if err != nil {
		return nil, err
	}
	l := h.emptyLedger()
	add := func(r resource, owners ...string) {
		l.Entries = append(l.Entries, entry{resource: r, Owners: slices.Clone(owners)})
	}
	machines := []string{name}
	for _, r := range remnants {
		add(tap{Link: r.tap}, r.owner)
		if !slices.Contains(machines, r.owner) {
			machines = append(machines, r.owner)
		}
	}
	for _, m := range machines {
		for _, c := range allChains(m) {
			exists, err := c.exists(h)
			if err != nil {
				return nil, err
			}
			if exists {
				add(c, m)
			}
		}
	}
	if h.ndc != "" {
		add(requester{requesterName}, machines...)
	}
	rules, err := markedRules()
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		owners := machines
		for _, left := range remnants {
			if r.Link == left.tap || slices.Contains(left.subnets, r.Prefix) {
				owners = []string{left.owner}
			}
		}
		add(r, owners...)
	}
	routes, err := markedRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		add(r, machines...)
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
