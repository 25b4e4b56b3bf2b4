//go:build linux

package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// firewallTable is the one nf_tables table that is the guest's own. The tables of tailscaled stand
// beside it and count as well: a packet is let in only when no table drops it.
const firewallTable = "sov"

// Connections to the endpoint that do not come from a privileged port: in a second, and at once.
const (
	endpointRate  = 100
	endpointBurst = 200
)

// A Firewall describes what the guest lets in.
type Firewall struct {
	Link     string       // the interface to the host
	Subnet   netip.Prefix // of the guest's address; invalid without one
	Gateway  netip.Addr   // the host
	Endpoint uint16       // TCP port that only the host may connect to
	Open     []guestspec.Opening
}

// Apply replaces the rules that an earlier call made, in one transaction: there is no moment
// without rules.
func (f Firewall) Apply() error {
	rules, err := f.rules()
	if err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	// A kernel without nf_tables has one answer for all messages of a transaction, and Flush would
	// wait for the others for ever.
	if _, err := conn.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		return fmt.Errorf("set up the firewall: %w (does the kernel have nf_tables?)", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable}
	conn.AddTable(table) // so that there is one to remove
	conn.DelTable(table)
	conn.AddTable(table)
	drop := nftables.ChainPolicyDrop
	chain := conn.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	for _, rule := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	return nil
}

// rules lists the rules in the order in which a packet meets them: those of running connections
// first, which most packets belong to.
func (f Firewall) rules() ([][]expr.Any, error) {
	rules := [][]expr.Any{
		join(connection(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept)),
		// Root on the host connects to the endpoint from a privileged port. The rates of all other
		// connections are limited, those of the guest's own services apart from those of the host.
		join(arrivesOn("lo"), port(unix.IPPROTO_TCP, f.Endpoint), sourcePort(expr.CmpOpLt, guestapi.FirstUnprivileged), verdict(expr.VerdictDrop)),
		join(arrivesOn("lo"), port(unix.IPPROTO_TCP, f.Endpoint), tooMany(), verdict(expr.VerdictDrop)),
		join(arrivesOn("lo"), verdict(expr.VerdictAccept)),
		join(port(unix.IPPROTO_TCP, f.Endpoint), sourcePort(expr.CmpOpGte, guestapi.FirstUnprivileged), tooMany(), verdict(expr.VerdictDrop)),
		join(connection(expr.CtStateBitINVALID), verdict(expr.VerdictDrop)),
		// Reports on paths and their MTU, neighbours in IPv6, and a person's ping.
		join(transport(unix.IPPROTO_ICMP), verdict(expr.VerdictAccept)),
		join(transport(unix.IPPROTO_ICMPV6), verdict(expr.VerdictAccept)),
	}
	if f.Gateway.IsValid() {
		host := netip.PrefixFrom(f.Gateway, f.Gateway.BitLen())
		rules = append(rules, join(arrivesOn(f.Link), source(host), port(unix.IPPROTO_TCP, f.Endpoint), verdict(expr.VerdictAccept)))
	}
	for _, o := range f.Open {
		opened, err := f.opening(o)
		if err != nil {
			return nil, err
		}
		rules = append(rules, opened...)
	}
	return rules, nil
}

// opening is one rule for each prefix of o.
func (f Firewall) opening(o guestspec.Opening) ([][]expr.Any, error) {
	link, protocol := f.Link, byte(unix.IPPROTO_TCP)
	if o.On == guestspec.OnTailnet {
		link = guestspec.TailnetInterface
	}
	if o.Protocol == guestspec.UDP {
		protocol = unix.IPPROTO_UDP
	}
	var rules [][]expr.Any
	accept := verdict(expr.VerdictAccept)
	if o.PerSecond > 0 {
		accept = join(rate(o.PerSecond), accept)
	}
	if len(o.From) == 0 {
		return append(rules, join(arrivesOn(link), port(protocol, o.Port), accept)), nil
	}
	for _, from := range o.From {
		prefix := f.Subnet
		if from != guestspec.FromSubnet {
			var err error
			if prefix, err = netip.ParsePrefix(from); err != nil {
				return nil, err
			}
		}
		if !prefix.IsValid() {
			continue
		}
		if o.PerSecond > 0 && prefix.Contains(f.Gateway) { // no other sender can take the host's turn
			host := netip.PrefixFrom(f.Gateway, f.Gateway.BitLen())
			rules = append(rules, join(arrivesOn(link), source(host), port(protocol, o.Port), verdict(expr.VerdictAccept)))
		}
		rules = append(rules, join(arrivesOn(link), source(prefix), port(protocol, o.Port), accept))
	}
	return rules, nil
}

// Parts of a rule: each loads something into a register and goes on only where it compares. What
// `nft --debug=netlink` shows for the like in words served as the model.

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// rate matches so many packets a second, after a burst; all packets that get to it share it.
func rate(perSecond uint32) []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(perSecond), Unit: expr.LimitTimeSecond,
		Burst: max(perSecond, guestspec.OpeningBurst)}}
}

// equal compares register 1.
func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// connection matches packets of a connection in one of these states.
func connection(states uint32) []expr.Any {
	mask := binary.NativeEndian.AppendUint32(nil, states)
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// arrivesOn matches by the interface's name, which may belong to none yet.
func arrivesOn(link string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(name)}
}

// transport matches the protocol above IP.
func transport(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{protocol})}
}

// port matches a port as the destination.
func port(protocol byte, number uint16) []expr.Any {
	const offset = 2 // behind the source port, in TCP and UDP alike
	return append(transport(protocol),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, number)))
}

// sourcePort compares the source port of TCP or UDP, once the protocol has matched.
func sourcePort(op expr.CmpOp, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: op, Register: 1, Data: binary.BigEndian.AppendUint16(nil, number)},
	}
}

// tooMany matches connections beyond endpointRate and endpointBurst.
func tooMany() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: endpointRate, Unit: expr.LimitTimeSecond, Burst: endpointBurst, Over: true}}
}

// source matches addresses in a prefix.
func source(p netip.Prefix) []expr.Any {
	p = p.Masked()
	// RFC 791, section 3.1; RFC 8200, section 3.
	family, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 8
	}
	size := uint32(p.Addr().BitLen() / 8)
	mask := make([]byte, size)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		equal(p.Addr().AsSlice()),
	}
}
