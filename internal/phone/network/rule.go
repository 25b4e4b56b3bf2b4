package network

import (
	"fmt"
	"net/netip"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A rule is a policy rule: "PRIORITY: from all [to PREFIX] [iif LINK] lookup TABLE".
type rule struct {
	Link     string       `json:"link,omitempty"`  // incoming interface; empty: any
	Prefix   netip.Prefix `json:"prefix,omitzero"` // destination; zero: any
	Table    int          `json:"table"`
	Priority int          `json:"priority"`
}

func (r rule) String() string { return "rule " + r.text() }

// text returns the rule as ip rule prints it.
func (r rule) text() string {
	out := fmt.Sprintf("%d: from all", r.Priority)
	if r.Prefix.IsValid() {
		out += " to " + r.Prefix.String()
	}
	if r.Link != "" {
		out += " iif " + r.Link
	}
	table := fmt.Sprint(r.Table)
	if r.Table == unix.RT_TABLE_MAIN {
		table = "main"
	}
	return out + " lookup " + table
}

func (r rule) kind() string { return "rule" }

func (r rule) valid() bool {
	return r.Priority > 0 && r.Table > 0 && (!r.Prefix.IsValid() || r.Prefix.Addr().Is4())
}

func (r rule) foreign() bool { return true }

func (r rule) exists(*Host) (bool, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	for _, have := range rules {
		plain := have.Src == nil && have.OifName == "" && have.Mark == 0 && have.Mask == nil && !have.Invert &&
			have.UIDRange == nil && have.Tos == 0 && have.IPProto <= 0 && have.Sport == nil && have.Dport == nil &&
			have.SuppressPrefixlen < 0
		if plain && r == ruleOf(have) {
			return true, nil
		}
	}
	return false, err
}

// ruleOf converts a rule of the kernel, without the selectors that sov's rules do not have.
func ruleOf(r netlink.Rule) rule {
	return rule{Link: r.IifName, Prefix: prefixOf(r.Dst), Table: r.Table, Priority: r.Priority}
}

func (r rule) make(*Host) error { return netlink.RuleAdd(r.request()) }

func (r rule) undo(*Host, string) error { return ignoreAbsent(netlink.RuleDel(r.request())) }

func (r rule) request() *netlink.Rule {
	out := netlink.NewRule()
	out.Family, out.Priority, out.Table, out.IifName = netlink.FAMILY_V4, r.Priority, r.Table, r.Link
	out.Protocol = protoEverything
	if r.Prefix.IsValid() || r.Link != "" {
		out.Protocol = protoScoped
	}
	if r.Prefix.IsValid() {
		out.Dst = ipNet(r.Prefix)
	}
	return out
}

func (r rule) missing() finding.Finding {
	return broken(LayerRouting, "the rule \""+r.text()+"\" is missing",
		"it was removed; without it Android's rules end the guest's packets at \"unreachable\"")
}

// markedRules returns the policy rules with sov's protocols.
func markedRules() ([]rule, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read the policy rules: %w", err)
	}
	var out []rule
	for _, r := range rules {
		if r.Protocol == protoEverything || r.Protocol == protoScoped {
			out = append(out, ruleOf(r))
		}
	}
	return out, nil
}
