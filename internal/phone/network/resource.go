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

// A resource is one change to the host's network. Its fields alone are enough to recognise, create
// and undo it; they are also its format in the ledger. Resources are comparable values: equal
// values are one resource.
type resource interface {
	fmt.Stringer // in messages: "address 192.168.100.1/24 on vm_sql"

	// kind names the type in the ledger.
	kind() string
	// valid reports whether this package can have created such a resource. Undoing another could do
	// harm.
	valid() bool
	// foreign reports whether an existing resource that is not in the ledger belongs to another
	// program.
	foreign() bool

	// exists reports whether the kernel has the resource, from any program.
	exists(h *Host) (bool, error)
	// make creates the resource, which does not exist.
	make(h *Host) error
	// undo removes the resource, if it exists. before is the value that a replacing resource
	// replaced.
	undo(h *Host, before string) error
	// missing returns the finding for a resource that does not exist.
	missing() finding.Finding
}

// Additional interfaces of some kinds of resource.
type (
	// A claimed resource has the name of its machine: the TAP interface. An existing one of another
	// owner is an error.
	claimed interface {
		checkOwner(owner string, inLedger bool) error
	}
	// A replacing resource replaces a value, which undo restores: the sysctl.
	replacing interface {
		current(h *Host) (string, error)
	}
	// An ordered resource has an effect only before others of its kind: the route. If sov's is not
	// in place, it is removed and re-created.
	ordered interface {
		inPlace() (bool, error)
	}
)

// Sov's marks on rules and routes, the field "proto" of ip rule and ip route (linux/rtnetlink.h;
// values up to 4 are the kernel's, and no routing daemon uses these). They identify sov's entries
// if the ledger is lost, and make removal exact: in requests to add or remove, the kernel lets a
// rule without a destination match any destination. Without the marks it would refuse "from all"
// beside "from all to 192.168.100.0/24", and could remove one instead of the other.
const (
	protoEverything = 115 // the rule for all packets; routes
	protoScoped     = 116 // rules for a machine's packets
)

// ignoreAbsent returns nil for an error that says that the resource to remove does not exist.
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

// findLink returns nil if the interface does not exist.
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
