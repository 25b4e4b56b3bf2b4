package network

import (
	"fmt"
	"net/netip"
)

// A filledChain is one of a machine's chains with its rules.
type filledChain struct {
	chain
	rules []string // as iptables -S prints them, without "-A CHAIN"
}

const (
	established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
	newTCP      = "-p tcp -m tcp --dport %d -m conntrack --ctstate NEW -j ACCEPT"
)

// chains are vm's. What comes from the guest leaves by the uplink or goes to a peer, and what reaches it is an answer,
// from a peer, or for a published port; the rest is dropped.
func (vm VM) chains(u Uplink) []filledChain {
	subnet, guest := vm.Subnet(), netip.PrefixFrom(vm.Guest.Addr(), 32)
	forward := []string{"-i " + vm.TAP + " " + established, "-o " + vm.TAP + " " + established}
	var in []string
	for _, peer := range vm.Peers {
		forward = append(forward, fmt.Sprintf("-s %s -d %s -i %s -j ACCEPT", subnet, peer.Masked(), vm.TAP))
		in = append(in, fmt.Sprintf("-s %s -d %s -o %s -j ACCEPT", peer.Masked(), subnet, vm.TAP))
	}
	if u.Interface != "" {
		forward = append(forward, fmt.Sprintf("-s %s -i %s -o %s -j ACCEPT", subnet, vm.TAP, u.Interface))
	}
	forward = append(forward, in...)
	var pre []string
	for _, p := range vm.Publish {
		forward = append(forward, fmt.Sprintf("-d %s -o %s "+newTCP, guest, vm.TAP, p.Port))
		if p.Forward && u.Interface != "" {
			pre = append(pre, fmt.Sprintf("-i %s -p tcp -m tcp --dport %d -m addrtype --dst-type LOCAL -j DNAT --to-destination %s:%d",
				u.Interface, p.Port, vm.Guest.Addr(), p.Port))
		}
	}
	forward = append(forward, "-i "+vm.TAP+" -j DROP", "-o "+vm.TAP+" -j DROP")
	var post []string
	if u.Interface != "" {
		post = append(post, fmt.Sprintf("-s %s -o %s -j MASQUERADE", subnet, u.Interface))
	}
	all := allChains(vm.Name)
	out := []filledChain{{all[0], forward}, {all[1], post}}
	if len(pre) > 0 {
		out = append(out, filledChain{all[2], pre})
	}
	return out
}

// allChains are those a machine may have: for what is forwarded, for what leaves, and for what is led to the guest.
func allChains(name string) [3]chain {
	return [...]chain{
		{Table: tableFilter, From: "FORWARD", Name: chainName(name, "fwd")},
		{Table: tableNAT, From: "POSTROUTING", Name: chainName(name, "post")},
		{Table: tableNAT, From: "PREROUTING", Name: chainName(name, "pre")},
	}
}

// fillChains makes the chains, which the ledger has already, hold their rules.
func (h *Host) fillChains(vm VM, u Uplink, report *Report) error {
	for _, c := range vm.chains(u) {
		changed, err := h.tables.fill(c.Table, c.From, c.Name, c.rules)
		if err != nil {
			return fmt.Errorf("%s: %w", c.chain, err)
		}
		if changed {
			h.step(c.String())
			report.Changed = append(report.Changed, "filled "+c.String())
		}
	}
	return nil
}
