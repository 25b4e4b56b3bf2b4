package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A resource is one change to the host's network. It can be recognised, made and undone from its
// fields alone, which are also its form in the ledger. Resources are comparable values: equal
// values are one resource.
type resource interface {
	fmt.Stringer // for people: "address 192.168.100.1/24 on vm_sql"

	// kind names the type in the ledger.
	kind() string
	// valid reports whether this package makes such a resource. Undoing another could do harm.
	valid() bool
	// foreign reports whether one that exists, but not in the ledger, belongs to another program.
	foreign() bool

	// exists reports whether the kernel has the resource, from any program.
	exists(h *Host) (bool, error)
	// make makes the resource, which does not exist.
	make(h *Host) error
	// undo removes the resource, if it exists. Before is the value that a replacing one replaced.
	undo(h *Host, before string) error
	// missing is what Check reports when the resource does not exist.
	missing() finding.Finding
}

// Some kinds of resource do more.
type (
	// A claimed resource carries the name of its machine: the TAP interface. One that exists and
	// is not the owner's is refused.
	claimed interface {
		checkOwner(owner string, inLedger bool) error
	}
	// A replacing resource takes the place of another value, which undo restores: the sysctl.
	replacing interface {
		current(h *Host) (string, error)
	}
	// An ordered resource has an effect only before others of its kind: the route. One of ours
	// that is not in place is removed and made again.
	ordered interface {
		inPlace() (bool, error)
	}
)

// Our marks on rules and routes, the field "proto" of ip rule and ip route (linux/rtnetlink.h;
// values up to 4 are the kernel's, and no routing daemon uses these). They identify ours when the
// ledger is lost, and they make removal exact: the kernel takes a rule without a destination as the
// request to add or remove one with any destination. Without the marks it would refuse "from all"
// beside "from all to 192.168.100.0/24", and remove one for the other.
const (
	protoEverything = 115 // the rule for all packets; routes
	protoScoped     = 116 // rules for a machine's packets
)

// ignoreAbsent drops an error that says that the resource to remove does not exist.
func ignoreAbsent(err error) error {
	if isAbsent(err) {
		return nil
	}
	return err
}

func isAbsent(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// findLink returns nil when the interface does not exist.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if isAbsent(err) {
		return nil, nil
	}
	return link, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}
