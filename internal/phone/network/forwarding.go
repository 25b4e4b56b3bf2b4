package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// A filledChain is a chain of a machine with its rules.
type filledChain struct {
	chain
	rules []string // as iptables -S prints them, without "-A CHAIN"
}

const (
	established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
	// notRoot matches packets from sockets of users other than root. The kernel's own packets do
	// not have an owner and do not match (net/netfilter/xt_owner.c). The value of all ones is not a
	// user (setresuid(2)).
	notRoot = "-m owner --uid-owner 1-4294967294"

	ntpPort = 123
	dnsPort = 53
	// tcpHeaders is the size of the IPv4 and TCP headers in bytes.
	tcpHeaders = 40
)

// tables are the iptables tables with sov's chains, in the order in which they are filled: the
// rules that accept packets come after those that translate them.
var tables = []string{tableNAT, tableMangle, tableFilter}

// chains are vm's.
func (vm VM) chains(u Uplink) []filledChain {
	all := allChains(vm.Name)
	out := []filledChain{{all[0], vm.forwarded(u)}, {all[1], vm.fromPhone()}, {all[2], vm.toPhone()}}
	// They do not depend on the uplink: a connection whose first packet was not translated would
	// never be.
	var mss, post, pre []string
	for _, peer := range vm.Peers {
		post = append(post, fmt.Sprintf("-s %s -d %s -j RETURN", vm.Subnet(), peer.Subnet()))
	}
	post = append(post, fmt.Sprintf("-s %s ! -o %s -j MASQUERADE", vm.Subnet(), vm.TAP))
	if u.Interface != "" {
		if size := u.MTU - tcpHeaders; u.MTU > 0 && u.MTU < vm.MTU {
			const syn = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss"
			mss = append(mss, fmt.Sprintf("-i %s -o %s %s %d", vm.TAP, u.Interface, syn, size), fmt.Sprintf("-i %s -o %s %s %d", u.Interface, vm.TAP, syn, size))
		}
	}
	for _, p := range vm.Publish {
		if p.Forward && u.Interface != "" {
			pre = append(pre, fmt.Sprintf("-i %s %s -m addrtype --dst-type LOCAL -j DNAT --to-destination %s:%d",
				u.Interface, p.match(cmp.Or(p.Host, p.Port)), vm.Guest.Addr(), p.Port))
		}
	}
	out = append(out, filledChain{all[4], post})
	if len(mss) > 0 {
		out = append(out, filledChain{all[3], mss})
	}
	if len(pre) > 0 {
		out = append(out, filledChain{all[5], pre})
	}
	return out
}

// forwarded returns the rules for forwarded packets. Packets from the guest may go to the internet
// by the uplink, or to a published port of a peer. Packets to the guest must be answers, come from
// a peer for a published port, or be for a port that the phone forwards; the rest is dropped. Both
// peers have the rules for both directions, because either's chain may come first.
func (vm VM) forwarded(u Uplink) []string {
	subnet, guest := vm.Subnet(), netip.PrefixFrom(vm.Guest.Addr(), 32)
	out := []string{"-i " + vm.TAP + " " + established, "-o " + vm.TAP + " " + established}
	var in []string
	for _, peer := range vm.Peers {
		there := netip.PrefixFrom(peer.Guest.Addr(), 32)
		for _, p := range peer.Publish {
			out = append(out, fmt.Sprintf("-s %s -d %s -i %s -o %s %s -j ACCEPT", guest, there, vm.TAP, peer.TAP, p.match(p.Port)))
		}
		for _, p := range vm.Publish {
			in = append(in, fmt.Sprintf("-s %s -d %s -i %s -o %s %s -j ACCEPT", there, guest, peer.TAP, vm.TAP, p.match(p.Port)))
		}
		for _, ends := range [2][4]string{{guest.String(), there.String(), vm.TAP, peer.TAP}, {there.String(), guest.String(), peer.TAP, vm.TAP}} {
			out = append(out, fmt.Sprintf("-s %s -d %s -i %s -o %s -p icmp -m icmp --icmp-type 8 -j ACCEPT", ends[0], ends[1], ends[2], ends[3])) // ping
		}
		// Also for a peer that is not running, so that packets for it do not leave by the uplink.
		out = append(out, fmt.Sprintf("-d %s -i %s -j REJECT --reject-with icmp-host-unreachable", peer.Subnet(), vm.TAP))
	}
	if u.Interface != "" {
		if !vm.Egress.LAN {
			for _, server := range vm.DNS {
				if server.Is4() {
					for _, protocol := range []string{"udp", "tcp"} {
						out = append(out, fmt.Sprintf("-s %s -d %s/32 -i %s -o %s -p %s -m %[5]s --dport %d -j ACCEPT", subnet, server, vm.TAP, u.Interface, protocol, dnsPort))
					}
				}
			}
			for _, network := range vmspec.PrivateNetworks {
				out = append(out, fmt.Sprintf("-s %s -d %s -i %s -o %s -j DROP", subnet, network, vm.TAP, u.Interface))
			}
		}
		out = append(out, fmt.Sprintf("-s %s -i %s -o %s -j ACCEPT", subnet, vm.TAP, u.Interface))
	}
	out = append(out, in...)
	for _, p := range vm.Publish {
		if p.Forward {
			out = append(out, fmt.Sprintf("-d %s -o %s %s -m conntrack --ctstate DNAT -j ACCEPT", guest, vm.TAP, p.match(p.Port)))
		}
	}
	return append(out, "-i "+vm.TAP+" -j DROP", "-o "+vm.TAP+" -j DROP")
}

// fromPhone returns the rules for the phone's own packets to the guest. Root may send anything,
// other users only answers, and packets to ports that are open to apps.
func (vm VM) fromPhone() []string {
	guest := netip.PrefixFrom(vm.Guest.Addr(), 32)
	var out []string
	for _, port := range vm.Phone {
		out = append(out, fmt.Sprintf("-d %s -o %s -p tcp -m tcp --dport %d -j RETURN", guest, vm.TAP, port))
	}
	if vm.Egress.Phone {
		out = append(out, "-o "+vm.TAP+" -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN")
	}
	return append(out, "-o "+vm.TAP+" "+notRoot+" -j REJECT --reject-with icmp-port-unreachable")
}

// toPhone returns the rules for the guest's packets to the phone itself: answers, SNTP requests,
// and DNS requests if the phone is a name server in the recipe.
func (vm VM) toPhone() []string {
	host := netip.PrefixFrom(vm.Host.Addr(), 32)
	out := []string{"-i " + vm.TAP + " " + established}
	if vm.Egress.Phone {
		return out
	}
	out = append(out, fmt.Sprintf("-d %s -i %s -p udp -m udp --dport %d -j ACCEPT", host, vm.TAP, ntpPort))
	for _, server := range vm.DNS {
		if server == vm.Host.Addr() {
			for _, protocol := range []string{"udp", "tcp"} {
				out = append(out, fmt.Sprintf("-d %s -i %s -p %s -m %[3]s --dport %d -j ACCEPT", host, vm.TAP, protocol, dnsPort))
			}
		}
	}
	return append(out, "-i "+vm.TAP+" -j DROP")
}

// allChains returns the possible chains of a machine: for forwarded packets, for packets that the
// phone sends and receives, for the MSS, and for source and destination NAT.
func allChains(name string) [6]chain {
	return [...]chain{
		{Table: tableFilter, From: "FORWARD", Name: chainName(name, "fwd")},
		{Table: tableFilter, From: "OUTPUT", Name: chainName(name, "out")},
		{Table: tableFilter, From: "INPUT", Name: chainName(name, "in")},
		{Table: tableMangle, From: "FORWARD", Name: chainName(name, "mss")},
		{Table: tableNAT, From: "POSTROUTING", Name: chainName(name, "post")},
		{Table: tableNAT, From: "PREROUTING", Name: chainName(name, "pre")},
	}
}

// chains returns vm's chains that the kernel supports.
func (h *Host) chains(vm VM, u Uplink) []filledChain {
	return slices.DeleteFunc(vm.chains(u), func(c filledChain) bool { return h.noOwner && c.From == "OUTPUT" })
}

// fillChains sets the rules of the chains, which the ledger already has, in one transaction for
// each table.
func (h *Host) fillChains(vm VM, u Uplink, report *Report) error {
	chains := h.chains(vm, u)
	for _, table := range tables {
		changed, err := h.tables.fill(table, chains)
		if err != nil && table == tableFilter && !h.noOwner {
			h.noOwner = true
			without := h.chains(vm, u)
			if changed, again := h.tables.fill(table, without); again == nil {
				chains = without
				h.noteFilled(changed, table, report)
				continue
			}
			h.noOwner = false // that was not the reason
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		h.noteFilled(changed, table, report)
	}
	if h.noOwner {
		report.Warnings = append(report.Warnings, "this phone's iptables cannot tell users apart (no match \"owner\"): its apps reach every port of the guest")
	}
	return nil
}

func (h *Host) noteFilled(changed []filledChain, table string, report *Report) {
	if len(changed) > 0 {
		h.step("table " + table)
	}
	for _, c := range changed {
		report.Changed = append(report.Changed, "filled "+c.String())
	}
}
