package netd

import (
	"fmt"
	"strings"
)

// A parent is a built-in chain and the chains that netd creates for it.
type parent struct {
	table, chain string
	children     []string
	exclusive    bool // it is flushed first, which deletes the rules of others
	only4        bool
	since        int // first release with the first child
}

// parents lists netd's parent chains in the order in which netd creates them
// (server/Controllers.cpp).
var parents = []parent{
	{"filter", "INPUT", []string{"bw_INPUT", "fw_INPUT"}, true, false, 0},
	{"filter", "FORWARD", []string{"oem_fwd", "fw_FORWARD", "bw_FORWARD", "tetherctrl_FORWARD"}, true, false, 0},
	{"raw", "PREROUTING", []string{"idletimer_raw_PREROUTING", "bw_raw_PREROUTING", "tetherctrl_raw_PREROUTING"}, true, false, 0},
	{"mangle", "FORWARD", []string{"tetherctrl_mangle_FORWARD"}, true, false, 0},
	{"mangle", "INPUT", []string{"connmark_mangle_INPUT", "wakeupctrl_mangle_INPUT", "routectrl_mangle_INPUT"}, true, false, 15},
	{"mangle", "OUTPUT", []string{"connmark_mangle_OUTPUT"}, true, false, 15},
	{"nat", "PREROUTING", []string{"oem_nat_pre"}, true, true, 0},
	{"nat", "POSTROUTING", []string{"tetherctrl_nat_POSTROUTING"}, true, true, 0},
	{"filter", "OUTPUT", []string{"oem_out", "fw_OUTPUT", "st_OUTPUT", "bw_OUTPUT"}, false, false, 0},
	{"mangle", "POSTROUTING", []string{"oem_mangle_post", "bw_mangle_POSTROUTING", "idletimer_mangle_POSTROUTING"}, false, false, 0},
}

// grandchildren maps tables to the chains to which other chains of netd jump.
var grandchildren = map[string][]string{
	"filter": {"bw_global_alert", "bw_costly_shared", "bw_penalty_box", "bw_happy_box", "bw_data_saver",
		"st_penalty_log", "st_penalty_reject", "st_clear_detect", "st_clear_caught", "tetherctrl_counters"},
}

// contents maps tables to the rules that the controllers' hooks add to the chains. It omits matches
// that a computer's kernel lacks.
var contents = map[string][]string{
	"filter": {
		"-A bw_INPUT -j bw_global_alert",
		"-A bw_INPUT -p esp -j RETURN",
		"-A bw_INPUT -m mark --mark 0x100000/0x100000 -j RETURN",
		"-A bw_INPUT -j MARK --or-mark 0x100000",
		"-A bw_OUTPUT -j bw_global_alert",
		"-A bw_costly_shared -j bw_penalty_box",
		"-A bw_penalty_box -j bw_happy_box",
		"-A bw_happy_box -j bw_data_saver",
		"-A bw_data_saver -j RETURN",
	},
	"raw": {
		"-A bw_raw_PREROUTING -m mark --mark 0xdeadc1a7 -j DROP",
		"-A bw_raw_PREROUTING -i ipsec+ -j RETURN",
		"-A bw_raw_PREROUTING -m policy --pol ipsec --dir in -j RETURN",
	},
	"mangle": {
		"-A bw_mangle_POSTROUTING -o ipsec+ -j RETURN",
		"-A bw_mangle_POSTROUTING -m policy --pol ipsec --dir out -j RETURN",
		"-A bw_mangle_POSTROUTING -j MARK --set-mark 0x0/0x100000",
	},
}

// startChains creates netd's chains and their contents, for IPv4 and IPv6.
func (n *Netd) startChains() {
	n.t.Helper()
	for _, program := range []string{"$IPTABLES", "$IP6TABLES"} {
		four := program == "$IPTABLES"
		have := n.o.Phone.Shell(program + "-save")
		var script strings.Builder
		for _, p := range parents {
			children := p.children
			if n.o.System.Release < p.since {
				children = children[1:]
			}
			if p.only4 && !four || len(children) == 0 {
				continue
			}
			fmt.Fprintf(&script, "*%s\n", p.table)
			if p.exclusive {
				fmt.Fprintf(&script, ":%s -\n-F %[1]s\n", p.chain) // keeps the policy
			}
			for _, child := range children {
				fmt.Fprintf(&script, ":%s -\n", child)
				if p.exclusive || !strings.Contains(have, fmt.Sprintf("-A %s -j %s\n", p.chain, child)) {
					fmt.Fprintf(&script, "-A %s -j %s\n", p.chain, child)
				}
			}
			script.WriteString("COMMIT\n")
		}
		for _, table := range []string{"filter", "raw", "mangle"} {
			fmt.Fprintf(&script, "*%s\n", table)
			for _, chain := range grandchildren[table] {
				fmt.Fprintf(&script, ":%s -\n", chain)
			}
			script.WriteString(strings.Join(contents[table], "\n") + "\nCOMMIT\n")
		}
		n.o.Phone.Shell(program + "-restore -w --noflush <<'.'\n" + script.String() + ".")
	}
	n.resetTetherChains()
}

// resetTetherChains removes the rules of all tethers, except the counters' chain. It does not drop
// IPv6.
func (n *Netd) resetTetherChains() {
	n.t.Helper()
	n.o.Phone.Shell(`$IPTABLES-restore -w --noflush <<'.'
*filter
:tetherctrl_FORWARD -
-A tetherctrl_FORWARD -j DROP
COMMIT
*mangle
:tetherctrl_mangle_FORWARD -
-A tetherctrl_mangle_FORWARD -p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*nat
:tetherctrl_nat_POSTROUTING -
COMMIT
*raw
:tetherctrl_raw_PREROUTING -
COMMIT
.
$IP6TABLES-restore -w --noflush <<'.'
*filter
:tetherctrl_FORWARD -
COMMIT
*raw
:tetherctrl_raw_PREROUTING -
COMMIT
.`)
}

// tetherChains adds the rules that forward a tether's traffic (server/TetherController.cpp).
func (n *Netd) tetherChains(down, up string) {
	n.t.Helper()
	n.o.Phone.Shell(strings.NewReplacer("DOWN", down, "UP", up).Replace(`$IPTABLES-restore -w --noflush <<'.'
*nat
-A tetherctrl_nat_POSTROUTING -o UP -j MASQUERADE
COMMIT
*filter
-A tetherctrl_FORWARD -i UP -o DOWN -m state --state ESTABLISHED,RELATED -g tetherctrl_counters
-A tetherctrl_FORWARD -i DOWN -o UP -m state --state INVALID -j DROP
-A tetherctrl_FORWARD -i DOWN -o UP -g tetherctrl_counters
-D tetherctrl_FORWARD -j DROP
-A tetherctrl_FORWARD -j DROP
COMMIT
.
$IPTABLES -w -S tetherctrl_FORWARD | grep -q bw_global_alert || $IPTABLES -w -I tetherctrl_FORWARD -j bw_global_alert
$IPTABLES -w -S tetherctrl_counters | grep -q -e "-i DOWN -o UP" || {
	$IPTABLES -w -A tetherctrl_counters -i DOWN -o UP -j RETURN; $IPTABLES -w -A tetherctrl_counters -i UP -o DOWN -j RETURN; }`))
}

// mark adds ("-A") or deletes ("-D") the rule that marks an interface's incoming packets with the
// netId of its network.
func (n *Netd) mark(verb, name string, netID int) {
	n.t.Helper()
	mask := "0x7fefffff"
	if n.o.System.Release == 13 {
		mask = "0xffefffff"
	}
	n.o.Phone.Shell(fmt.Sprintf("for i in $IPTABLES $IP6TABLES; do $i -w -t mangle %s routectrl_mangle_INPUT -i %s -j MARK --set-xmark %#x/%s; done",
		verb, name, explicit|protected|netID, mask))
}
