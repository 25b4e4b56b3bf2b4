package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kind of thing that is made in the host's network.
type kind string

const (
	kindTAP     kind = "tap"
	kindAddress kind = "address"
	kindRule    kind = "rule"
	kindRoute   kind = "route"
	kindSysctl  kind = "sysctl"
	kindChain   kind = "chain"
)

// A thing is one change to the host's network, told so that it can be recognised, made and undone by whoever reads
// the ledger. Which fields count depends on the kind; those that do not are zero, so that equal things compare equal.
type thing struct {
	Kind     kind         `json:"kind"`
	Link     string       `json:"link,omitempty"`     // tap, address, route: interface; rule: the one packets come in by
	Prefix   netip.Prefix `json:"prefix,omitzero"`    // address; rule: destination
	Gateway  netip.Addr   `json:"gateway,omitzero"`   // route
	Table    int          `json:"table,omitempty"`    // rule, route
	Priority int          `json:"priority,omitempty"` // rule
	Path     string       `json:"path,omitempty"`     // sysctl, below /proc/sys
	Value    string       `json:"value,omitempty"`    // sysctl
	Chain    string       `json:"chain,omitempty"`
	From     string       `json:"from,omitempty"`     // chain: the built-in one that jumps to it
	IPTable  string       `json:"ip_table,omitempty"` // chain
}

func (t thing) String() string {
	switch t.Kind {
	case kindTAP:
		return "TAP interface " + t.Link
	case kindAddress:
		return fmt.Sprintf("address %s on %s", t.Prefix, t.Link)
	case kindRule:
		return "rule " + t.ruleText()
	case kindRoute:
		via := ""
		if t.Gateway.IsValid() {
			via = " via " + t.Gateway.String()
		}
		return fmt.Sprintf("default route%s dev %s in main", via, t.Link)
	case kindSysctl:
		return strings.ReplaceAll(t.Path, "/", ".") + "=" + t.Value
	default:
		return fmt.Sprintf("chain %s of table %s", t.Chain, t.IPTable)
	}
}

func (t thing) ruleText() string {
	out := fmt.Sprintf("%d: from all", t.Priority)
	if t.Prefix.IsValid() {
		out += " to " + t.Prefix.String()
	}
	if t.Link != "" {
		out += " iif " + t.Link
	}
	table := fmt.Sprint(t.Table)
	if t.Table == unix.RT_TABLE_MAIN {
		table = "main"
	}
	return out + " lookup " + table
}

// exists tells whether the kernel has the thing, whoever made it.
func (h *Host) exists(t thing) (bool, error) {
	switch t.Kind {
	case kindTAP:
		link, err := findLink(t.Link)
		return link != nil, err
	case kindAddress:
		return addressExists(t)
	case kindRule:
		return ruleExists(t)
	case kindRoute:
		return routeExists(t)
	case kindSysctl:
		value, err := h.readSysctl(t.Path)
		return value == t.Value, err
	default:
		return h.tables.has(t.IPTable, t.Chain)
	}
}

// make brings the thing about; it does not exist.
func (h *Host) make(t thing) error {
	switch t.Kind {
	case kindTAP:
		return makeTAP(t.Link)
	case kindAddress:
		link, err := netlink.LinkByName(t.Link)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(t.Prefix)})
	case kindRule:
		return netlink.RuleAdd(t.rule())
	case kindRoute:
		route, err := t.route()
		if err != nil {
			return err
		}
		// Before any other default route of the table: one of somebody else's, or one that another machine, whose
		// daemon has not seen yet that the uplink changed, still owns.
		return netlink.RouteAddEcmp(route)
	case kindSysctl:
		return h.writeSysctl(t.Path, t.Value)
	default:
		return nil // made with its content, see fill
	}
}

// undo takes the thing away; it need not exist.
func (h *Host) undo(t thing, before string) error {
	var err error
	switch t.Kind {
	case kindTAP:
		var link netlink.Link
		if link, err = findLink(t.Link); link != nil && err == nil && isOurs(link) {
			err = netlink.LinkDel(link)
		}
	case kindAddress:
		var link netlink.Link
		if link, err = findLink(t.Link); link != nil && err == nil {
			err = netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(t.Prefix)})
		}
	case kindRule:
		err = netlink.RuleDel(t.rule())
	case kindRoute:
		var route *netlink.Route
		if route, err = t.route(); err == nil {
			err = netlink.RouteDel(route)
		}
	case kindSysctl:
		err = h.restoreSysctl(t, before)
	default:
		err = h.tables.drop(t.IPTable, t.From, t.Chain)
	}
	if isAbsent(err) {
		return nil
	}
	return err
}

// isAbsent tells whether an error says that what was to be removed is not there.
func isAbsent(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// findLink returns nil when there is no such interface.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if isAbsent(err) {
		return nil, nil
	}
	return link, err
}

func addressExists(t thing) (bool, error) {
	link, err := findLink(t.Link)
	if link == nil || err != nil {
		return false, err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for _, a := range addresses {
		if prefixOf(a.IPNet) == t.Prefix {
			return true, nil
		}
	}
	return false, err
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}

// Our marks on rules and routes, the field "proto" of ip rule and ip route (linux/rtnetlink.h; up to 4 are the kernel's,
// and no routing daemon has these). They tell ours when the ledger is lost, and they make removing exact: the kernel
// takes a rule without a destination as the order to add or remove one with any, so that it would refuse "from all"
// beside "from all to 192.168.100.0/24", and remove one for the other.
const (
	protoEverything = 115 // the rule for all packets; routes
	protoScoped     = 116 // rules for a machine's packets
)

func (t thing) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.IifName, r.Protocol = netlink.FAMILY_V4, t.Priority, t.Table, t.Link, protoEverything
	if t.Prefix.IsValid() || t.Link != "" {
		r.Protocol = protoScoped
	}
	if t.Prefix.IsValid() {
		r.Dst = ipNet(t.Prefix)
	}
	return r
}

func ruleExists(t thing) (bool, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	for _, r := range rules {
		plain := r.Src == nil && r.OifName == "" && r.Mark == 0 && r.Mask == nil && !r.Invert && r.UIDRange == nil &&
			r.Tos == 0 && r.IPProto <= 0 && r.Sport == nil && r.Dport == nil && r.SuppressPrefixlen < 0
		if plain && r.Priority == t.Priority && r.Table == t.Table && r.IifName == t.Link && prefixOf(r.Dst) == t.Prefix {
			return true, nil
		}
	}
	return false, err
}

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

func (t thing) route() (*netlink.Route, error) {
	link, err := netlink.LinkByName(t.Link)
	if err != nil {
		return nil, err
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(anywhere), Table: t.Table, Family: netlink.FAMILY_V4, Protocol: protoEverything}
	if t.Gateway.IsValid() {
		// Main need not have the route to the gateway that the uplink's own table has.
		r.Gw, r.Flags = t.Gateway.AsSlice(), int(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	return r, nil
}

func routeExists(t thing) (bool, error) {
	link, err := findLink(t.Link)
	if link == nil || err != nil {
		return false, err
	}
	routes, err := defaultRoutes(t.Table)
	for _, r := range routes {
		if r.LinkIndex == link.Attrs().Index && gatewayOf(r) == t.Gateway && r.Priority == 0 {
			return true, nil
		}
	}
	return false, err
}

// defaultRoutes returns the unicast default routes of a table, best first.
func defaultRoutes(table int) ([]netlink.Route, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("read routing table %d: %w", table, err)
	}
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	var out []netlink.Route
	for _, r := range routes {
		if (r.Dst == nil || prefixOf(r.Dst) == anywhere) && r.Type == unix.RTN_UNICAST && r.LinkIndex > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

func gatewayOf(r netlink.Route) netip.Addr {
	addr, _ := netip.AddrFromSlice(r.Gw)
	return addr.Unmap()
}

func (h *Host) readSysctl(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(h.proc, "sys", path))
	return strings.TrimSpace(string(text)), err
}

func (h *Host) writeSysctl(path, value string) error {
	return os.WriteFile(filepath.Join(h.proc, "sys", path), []byte(value+"\n"), 0)
}

// restoreSysctl puts a value back, unless someone has set another one since.
func (h *Host) restoreSysctl(t thing, before string) error {
	now, err := h.readSysctl(t.Path)
	if err != nil || now != t.Value || before == t.Value {
		return err
	}
	return h.writeSysctl(t.Path, before)
}
