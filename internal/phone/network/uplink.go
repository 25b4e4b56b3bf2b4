package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An Uplink is the interface through which the host reaches the internet.
type Uplink struct {
	Interface string     `json:"interface"`
	Table     int        `json:"table"`            // the routing table with its default route
	Gateway   netip.Addr `json:"gateway,omitzero"` // zero on point-to-point links, such as mobile ones
	MTU       int        `json:"-"`                // bytes; the smaller of the interface's and its default route's
}

// same reports whether u equals v, apart from the MTU.
func (u Uplink) same(v Uplink) bool {
	u.MTU = v.MTU
	return u == v
}

func (u Uplink) String() string {
	switch {
	case u.Interface == "":
		return "none"
	case !u.Gateway.IsValid():
		return fmt.Sprintf("%s (table %d)", u.Interface, u.Table)
	default:
		return fmt.Sprintf("%s via %s (table %d)", u.Interface, u.Gateway, u.Table)
	}
}

// ErrNoUplink says that the host does not have a default network.
var ErrNoUplink = errors.New("the phone has no default network: neither Wi-Fi nor mobile data is connected")

// The rule for the default network is netd's "fwmark 0x0/0xffff iif lo lookup TABLE": for packets
// whose socket has chosen no network, of which the low 16 bits of the mark are the netId
// (system/netd/server/RouteController.cpp, modifyDefaultNetwork; Fwmark.h). LineageOS and CalyxOS
// also require the system permission, bits 18 and 19: "fwmark 0xc0000/0xcffff".
const (
	netIDMask      = 0xffff
	permissionMask = 0xc0000
)

// Uplink returns the interface of Android's default network. Only netd's rules name it, with
// priority 31000 (22000 up to Android 11); the rule is recognised by its mark and mask. A host
// without such rules (any other Linux) has its uplink in the table main. Without an uplink the
// error wraps ErrNoUplink.
func (h *Host) Uplink() (Uplink, error) {
	return findUplink("")
}

// findUplink finds the uplink or, if only is not empty, the default route of that interface. It
// ignores sov's routes.
func findUplink(only string) (Uplink, error) {
	if only == "auto" {
		only = ""
	}
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return Uplink{}, fmt.Errorf("read the policy rules: %w", err)
	}
	slices.SortStableFunc(rules, func(a, b netlink.Rule) int { return a.Priority - b.Priority })
	var tables []int
	for _, r := range rules {
		named := only != "" && r.OifName == only
		if (isDefaultNetwork(r) || named) && r.Table > 0 && r.Table != unix.RT_TABLE_LOCAL {
			tables = append(tables, r.Table)
		}
	}
	for _, table := range append(tables, unix.RT_TABLE_MAIN) {
		u, found, err := uplinkIn(table, only)
		if found || err != nil {
			return u, err
		}
	}
	if only != "" {
		return Uplink{}, fmt.Errorf("%w: %s, which the settings name, has no default route", ErrNoUplink, only)
	}
	return Uplink{}, ErrNoUplink
}

func isDefaultNetwork(r netlink.Rule) bool {
	return r.Mark&^permissionMask == 0 && r.Mask != nil && *r.Mask&^permissionMask == netIDMask && r.IifName == "lo" && r.OifName == "" &&
		r.UIDRange == nil && !r.Invert
}

// uplinkIn returns the best default route of a table whose interface is up and not one of sov's.
func uplinkIn(table int, only string) (Uplink, bool, error) {
	routes, err := defaultRoutes(table)
	if err != nil {
		return Uplink{}, false, err
	}
	for _, r := range routes {
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue // it was removed meanwhile
		}
		name := link.Attrs().Name
		if r.Protocol == protoEverything || only != "" && name != only || strings.HasPrefix(link.Attrs().Alias, aliasPrefix) {
			continue
		}
		mtu := link.Attrs().MTU
		if r.MTU > 0 {
			mtu = min(mtu, r.MTU)
		}
		return Uplink{Interface: name, Table: table, Gateway: gatewayOf(r), MTU: mtu}, true, nil
	}
	return Uplink{}, false, nil
}
