package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A route is a default route by the uplink.
type route struct {
	Link    string     `json:"link"`
	Gateway netip.Addr `json:"gateway,omitzero"` // zero on point-to-point links
	Table   int        `json:"table"`
}

func (r route) String() string {
	via := ""
	if r.Gateway.IsValid() {
		via = " via " + r.Gateway.String()
	}
	return fmt.Sprintf("default route%s dev %s in main", via, r.Link)
}

func (r route) kind() string { return "route" }

func (r route) valid() bool {
	return r.Link != "" && r.Table > 0 && (!r.Gateway.IsValid() || r.Gateway.Is4())
}

func (r route) foreign() bool { return true }

func (r route) exists(*Host) (bool, error) {
	link, err := findLink(r.Link)
	if link == nil || err != nil {
		return false, err
	}
	routes, err := defaultRoutes(r.Table)
	for _, have := range routes {
		if r.is(have, link) && have.Priority == 0 {
			return true, nil
		}
	}
	return false, err
}

// is reports whether a default route of r's table has r's interface, link, and gateway.
func (r route) is(have netlink.Route, link netlink.Link) bool {
	return have.LinkIndex == link.Attrs().Index && gatewayOf(have) == r.Gateway
}

// inPlace reports whether no other route of sov precedes it. A machine with a dead daemon may still
// own the route of a previous uplink.
func (r route) inPlace() (bool, error) {
	routes, err := defaultRoutes(r.Table)
	if err != nil || len(routes) == 0 || routes[0].Protocol != protoEverything {
		return true, err
	}
	link, err := findLink(r.Link)
	return link != nil && r.is(routes[0], link), err
}

// make adds the route before all other default routes of the table: those of other programs, and
// those that another machine still owns because its daemon has not noticed the change of the uplink
// yet.
func (r route) make(*Host) error {
	request, err := r.request()
	if err != nil {
		return err
	}
	return netlink.RouteAddEcmp(request)
}

func (r route) undo(*Host, string) error {
	request, err := r.request()
	if err == nil {
		err = netlink.RouteDel(request)
	}
	return ignoreAbsent(err)
}

func (r route) request() (*netlink.Route, error) {
	link, err := netlink.LinkByName(r.Link)
	if err != nil {
		return nil, err
	}
	out := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(anywhere), Table: r.Table, Family: netlink.FAMILY_V4, Protocol: protoEverything}
	if r.Gateway.IsValid() {
		// The table main may lack the route to the gateway that the uplink's own table has.
		out.Gw, out.Flags = r.Gateway.AsSlice(), int(netlink.FLAG_ONLINK)
	} else {
		out.Scope = netlink.SCOPE_LINK
	}
	return out, nil
}

func (r route) missing() finding.Finding {
	return broken(LayerRouting, "the "+r.String()+" is missing",
		"the uplink has just changed, or it was removed; a running daemon restores it within seconds")
}

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

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

// markedRoutes returns main's default routes with sov's protocol.
func markedRoutes() ([]route, error) {
	routes, err := defaultRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, err
	}
	var out []route
	for _, r := range routes {
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err == nil && r.Protocol == protoEverything {
			out = append(out, route{Link: link.Attrs().Name, Gateway: gatewayOf(r), Table: unix.RT_TABLE_MAIN})
		}
	}
	return out, nil
}
