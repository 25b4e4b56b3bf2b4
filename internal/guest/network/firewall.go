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

// firewallTable is the guest's own nf_tables table. The tables of tailscaled also apply: a packet
// is accepted only if no table drops it.
const firewallTable = "sov"

// Limits of connections to the endpoint from unprivileged ports: per second, and burst.
const (
	endpointRate  = 100
	endpointBurst = 200
)

// A Firewall describes the connections that the guest accepts.
type Firewall struct {
	Link     string       // the interface to the host
	Subnet   netip.Prefix // of the guest's address; invalid without one
	Gateway  netip.Addr   // the host
	Endpoint uint16       // TCP port that only the host may connect to
	Open     []guestspec.Opening
}

// Apply replaces the rules of an earlier call in one transaction, so that rules are always in
// place.
func (f Firewall) Apply() error {
	rules, err := f.rules()
	if err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	// A kernel without nf_tables sends only one response for all messages of a transaction, and
	// Flush would wait for the others forever.
	if _, err := conn.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		return fmt.Errorf("set up the firewall: %w (does the kernel have nf_tables?)", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: firewallTable}
	conn.AddTable(table) // so that the deletion does not fail
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

// rules lists the rules in order. Those for established connections come first, because most
// packets match them.
func (f Firewall) rules() ([][]expr.Any, error) {
	rules := [][]expr.Any{
		join(connection(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept)),
		// Root on the host connects to the endpoint from a privileged port. All other connections
		// are rate-limited, with separate limits for the guest's own services and for the host.
		join(arrivesOn("lo"), port(unix.IPPROTO_TCP, f.Endpoint), sourcePort(expr.CmpOpLt, guestapi.FirstUnprivileged), verdict(expr.VerdictDrop)),
		join(arrivesOn("lo"), port(unix.IPPROTO_TCP, f.Endpoint), tooMany(), verdict(expr.VerdictDrop)),
		join(arrivesOn("lo"), verdict(expr.VerdictAccept)),
		join(port(unix.IPPROTO_TCP, f.Endpoint), sourcePort(expr.CmpOpGte, guestapi.FirstUnprivileged), tooMany(), verdict(expr.VerdictDrop)),
		join(connection(expr.CtStateBitINVALID), verdict(expr.VerdictDrop)),
		// ICMP for path MTU discovery, IPv6 neighbour discovery, and ping.
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

// opening returns one rule for each prefix of o.
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
		if o.PerSecond > 0 && prefix.Contains(f.Gateway) { // the host has its own limit, which other senders cannot use up
			host := netip.PrefixFrom(f.Gateway, f.Gateway.BitLen())
			rules = append(rules, join(arrivesOn(link), source(host), port(protocol, o.Port), verdict(expr.VerdictAccept)))
		}
		rules = append(rules, join(arrivesOn(link), source(prefix), port(protocol, o.Port), accept))
	}
	return rules, nil
}

// Parts of a rule: each loads a value into a register and compares it. They are modelled on the
// output of `nft --debug=netlink` for equivalent rules.

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// rate matches perSecond packets a second, and a burst. All packets that reach the rule share it.
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

// arrivesOn matches the interface's name. The interface need not exist yet.
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
	const offset = 2 // after the source port, in both TCP and UDP
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
