package netd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

// A Place is the network namespace of a process or thread, and a shell in it. The shell fails the
// test if the script fails.
type Place struct {
	PID   int
	Shell func(script string) string
}

// Options configure a netd.
type Options struct {
	System   System
	Phone    Place // its shell has the paths of iptables and ip6tables in $IPTABLES and $IP6TABLES
	Internet Place
	// State is a folder of the phone with the names of the requesters of forwarding, see
	// [WriteNDC].
	State string
	// NewPlace creates the namespace of a tether's client.
	NewPlace func() Place
}

// A Netd is a phone's netd. Its methods fail the test on errors.
type Netd struct {
	t         session.T
	o         Options
	index     map[string]int // of interfaces that exist
	networks  []*network     // connected networks, in the order of connecting
	defaults  []string       // interfaces of the default network
	vpn       VPN
	vpnRules  []string
	tethers   []Tether
	clients   map[string]Place
	nextNetID int
	fallen    map[string][]string // by default interface: rules for traffic that the VPN does not carry
	stopClat  func()
}

// A network is a connected network.
type network struct {
	Network
	netID  int
	rules  map[string][]string // by interface
	tables map[string]int
}

// interfaces returns the network's interfaces: with clat, a carrier has two.
func (n *network) interfaces() []string {
	if n.IPv6Only {
		return []string{n.Interface, clatPrefix + n.Interface}
	}
	return []string{n.Interface}
}

const clatPrefix = "v4-"

// New creates the phone's network and starts netd. The scene is [Offline].
func New(t session.T, o Options) *Netd {
	t.Helper()
	n := &Netd{t: t, o: o, index: map[string]int{}, clients: map[string]Place{}, fallen: map[string][]string{}}
	n.plug()
	n.start()
	return n
}

// start starts netd, as at boot and after a crash. It disables forwarding, creates the chains, and
// re-creates all rules.
func (n *Netd) start() {
	n.t.Helper()
	n.o.Phone.Shell("rm -f " + n.o.State + "/*")
	n.set(n.o.Phone, "ipv4/ip_forward=0", "ipv6/conf/all/forwarding=0", "ipv4/conf/all/accept_redirects=0")
	n.startChains()
	n.nextNetID = firstNetID
	dummy := n.table("dummy0")
	lines := append([]string{"rule flush"}, ruleLines("add", slices.Concat(coreRules(), []string{ // flush keeps that of priority 0
		fmt.Sprintf("pref %d iif lo oif dummy0 uidrange 0-0 lookup %d", prioVPNOverrideOIF, dummy),
		fmt.Sprintf("pref %d iif lo oif dummy0 lookup %d", prioOutputInterface, dummy),
	}))...)
	lines = append(lines, fmt.Sprintf("route replace default dev dummy0 table %d proto static", dummy))
	n.ip(n.o.Phone, "-4", lines...)
	n.ip(n.o.Phone, "-6", lines...)
}

// rule adds or deletes rules for both families, with one netlink message for each rule and family.
func (n *Netd) rule(verb string, rules ...string) {
	n.t.Helper()
	n.ip(n.o.Phone, "-4", ruleLines(verb, rules)...)
	n.ip(n.o.Phone, "-6", ruleLines(verb, rules)...)
}

// ruleLines returns the commands of ip that add or delete rules.
func ruleLines(verb string, rules []string) []string {
	lines := make([]string, len(rules))
	for i, r := range rules {
		lines[i] = "rule " + verb + " " + r
	}
	return lines
}

// ip runs commands of the program ip in a network, in one process. The family is "-4", "-6", or ""
// for both, where the addresses tell.
func (n *Netd) ip(p Place, family string, lines ...string) {
	n.t.Helper()
	if len(lines) == 0 {
		return
	}
	c := exec.Command("ip", "-batch", "-")
	if family != "" {
		c.Args = append(c.Args, family)
	}
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(strings.Join(lines, "\n")), &out, &out
	err := childtest.Start(c, func() error { return EnterNetwork(p.PID) })
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		n.t.Fatalf("ip %s %q: %v: %s", family, lines, err, &out)
	}
}

// set sets sysctls of a network, NAME=VALUE with names below /proc/sys/net.
func (n *Netd) set(p Place, settings ...string) {
	n.t.Helper()
	err := InNetwork(p.PID, func() error {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// table returns the number of an interface's routing table.
func (n *Netd) table(name string) int { return tableOffset + n.index[name] }

// find returns the network of an interface, or nil.
func (n *Netd) find(name string) *network {
	for _, c := range n.networks {
		if slices.Contains(c.interfaces(), name) {
			return c
		}
	}
	return nil
}

// Connect connects a network.
func (n *Netd) Connect(w Network) {
	n.t.Helper()
	c := &network{Network: w, netID: n.nextNetID, rules: map[string][]string{}, tables: map[string]int{}}
	n.nextNetID++
	n.networks = append(n.networks, c)
	for _, name := range c.interfaces() {
		if strings.HasPrefix(name, clatPrefix) {
			n.startClat(w.Interface, c.netID)
		} else {
			n.linkUp(name, w.IPv6Only)
		}
		table := n.table(name)
		c.rules[name], c.tables[name] = n.o.System.physical(name, table, c.netID, w.Restricted), table
		n.mark("-A", name, c.netID)
		n.addRoutes(name, w.IPv6Only, c.rules[name]...)
	}
}

// Disconnect disconnects an interface's network.
func (n *Netd) Disconnect(name string) {
	n.t.Helper()
	c := n.find(name)
	if slices.Contains(n.defaults, c.Interface) {
		n.SetDefault()
	}
	for _, name := range c.interfaces() {
		n.mark("-D", name, c.netID)
		n.rule("del", c.rules[name]...)
		n.o.Phone.Shell(fmt.Sprintf("for f in -4 -6; do printf 'route flush table %%d\\n' %d %d | ip $f -force -batch - 2>/dev/null || true; done", // a table may be empty
			c.tables[name], localTableOffset+c.tables[name]-tableOffset))
	}
	if c.IPv6Only {
		n.stopClat()
		delete(n.index, clatPrefix+c.Interface)
	}
	n.networks = slices.DeleteFunc(n.networks, func(o *network) bool { return o == c })
}

// SetDefault makes the networks of these interfaces the default. It adds the new rules before it
// deletes the old ones. Without names, the phone has no default network.
func (n *Netd) SetDefault(names ...string) {
	n.t.Helper()
	for _, name := range names {
		if !slices.Contains(n.defaults, name) {
			n.rule("add", n.defaultRules(name)...)
			n.fall(name)
		}
	}
	for _, name := range n.defaults {
		if !slices.Contains(names, name) {
			n.rule("del", n.defaultRules(name)...)
			n.rule("del", n.fallen[name]...)
			delete(n.fallen, name)
		}
	}
	n.defaults = slices.Clone(names)
}

func (n *Netd) defaultRules(name string) []string {
	var out []string
	c := n.find(name)
	for _, i := range c.interfaces() {
		out = append(out, n.o.System.defaultNetwork(c.tables[i])...)
	}
	return out
}

// fall adds the rules that route traffic which the VPN does not carry to a default network.
func (n *Netd) fall(name string) {
	if n.vpn.Name == "" {
		return
	}
	c := n.find(name)
	for _, i := range c.interfaces() {
		n.fallen[name] = append(n.fallen[name], n.o.System.fallthroughs(n.vpnNetID(), c.tables[i])...)
	}
	n.rule("add", n.fallen[name]...)
}

// vpnNetID returns the VPN's netId.
func (n *Netd) vpnNetID() int { return n.find(n.vpn.Name).netID }

// StartVPN connects a VPN.
func (n *Netd) StartVPN(v VPN) {
	n.t.Helper()
	n.linkUp(v.Name, false)
	table := n.table(v.Name)
	n.vpn = v
	c := &network{Network: Network{Interface: v.Name}, netID: n.nextNetID, tables: map[string]int{v.Name: table}}
	n.networks = append(n.networks, c)
	n.nextNetID++
	for _, name := range n.defaults {
		n.fall(name)
	}
	n.mark("-A", v.Name, c.netID)
	n.vpnRules = v.virtual(v.Name, table, c.netID)
	n.addRoutes(v.Name, false, n.vpnRules...)
}

// RestoreVPN brings the VPN's interface up after it was down, and restores its routes.
func (n *Netd) RestoreVPN() {
	n.t.Helper()
	n.linkUp(n.vpn.Name, false)
	n.addRoutes(n.vpn.Name, false)
}

// StopVPN disconnects the VPN.
func (n *Netd) StopVPN() {
	n.t.Helper()
	c := n.find(n.vpn.Name)
	n.mark("-D", n.vpn.Name, c.netID)
	n.rule("del", n.vpnRules...)
	for name, rules := range n.fallen {
		n.rule("del", rules...)
		delete(n.fallen, name)
	}
	n.ip(n.o.Phone, "", "link del "+n.vpn.Name)
	delete(n.index, n.vpn.Name)
	n.networks = slices.DeleteFunc(n.networks, func(o *network) bool { return o == c })
	n.vpn, n.vpnRules = VPN{}, nil
}

// StartTether starts a tether: it enables forwarding, then the interface, filter and address
// translation, then the rules that route the clients.
func (n *Netd) StartTether(t Tether) {
	n.t.Helper()
	n.linkUp(t.Down, false)
	n.requester("enable", "Tethering")
	local := tableLocalNetwork
	n.rule("add", fmt.Sprintf("pref %d iif lo oif %s uidrange 0-0 lookup %d", prioVPNOverrideOIF, t.Down, local),
		fmt.Sprintf("pref %d iif lo oif %s lookup %d", prioOutputInterface, t.Down, local))
	n.o.Phone.Shell(fmt.Sprintf("ip route replace %s dev %s table %d proto static; ip -6 route append fe80::/64 dev %[2]s table %[3]d proto static 2>/dev/null || true",
		downstream[t.Down].subnet, t.Down, local))
	n.tethers = append(n.tethers, t)
	for _, up := range n.upstreams(t) {
		n.tetherChains(t.Down, up)
		n.rule("add", n.tetherRule(t.Down, up))
	}
}

// upstreams returns the interfaces of a tether's network, the IPv4 interface first. The order on
// real phones is unknown.
func (n *Netd) upstreams(t Tether) []string {
	out := n.find(t.Up).interfaces()
	slices.Reverse(out)
	return out
}

func (n *Netd) tetherRule(down, up string) string {
	return fmt.Sprintf("pref %d iif %s lookup %d", prioTethering, down, n.table(up))
}

// StopTether stops a tether. Netd disables forwarding with its last requester, even if other
// programs need it.
func (n *Netd) StopTether(down string) {
	n.t.Helper()
	i := slices.IndexFunc(n.tethers, func(t Tether) bool { return t.Down == down })
	t := n.tethers[i]
	n.tethers = slices.Delete(n.tethers, i, i+1)
	for _, up := range n.upstreams(t) {
		n.rule("del", n.tetherRule(down, up))
	}
	n.resetTetherChains()
	for _, left := range n.tethers {
		for _, up := range n.upstreams(left) {
			n.tetherChains(left.Down, up)
		}
	}
	n.rule("del", fmt.Sprintf("pref %d iif lo oif %s uidrange 0-0 lookup %d", prioVPNOverrideOIF, down, tableLocalNetwork),
		fmt.Sprintf("pref %d iif lo oif %s lookup %d", prioOutputInterface, down, tableLocalNetwork))
	n.o.Phone.Shell(fmt.Sprintf("for f in -4 -6; do ip $f route flush table %d dev %s; done; ip link set %[2]s down", tableLocalNetwork, down))
	verb := "disable"
	if len(n.tethers) > 0 {
		verb = "enable"
	}
	n.requester(verb, "Tethering")
}

// Restart simulates a crash of netd: netd and the framework restart without any network. The scene
// is [Offline]; ToScene reconnects networks, with netIds from 100.
func (n *Netd) Restart() {
	n.t.Helper()
	if n.stopClat != nil {
		n.stopClat()
	}
	if n.vpn.Name != "" {
		n.ip(n.o.Phone, "", "link del "+n.vpn.Name)
	}
	n.start()
	n.networks, n.defaults, n.tethers, n.vpn, n.vpnRules = nil, nil, nil, VPN{}, nil
	clear(n.fallen)
	n.index = map[string]int{}
	n.readIndexes()
}

// ToScene changes to a scene by the events that lead to it. It adds new networks before it removes
// old ones.
func (n *Netd) ToScene(s Scene) {
	n.t.Helper()
	for _, t := range slices.Clone(n.tethers) {
		if !slices.Contains(s.Tethers, t) || !slices.Contains(s.Networks, n.find(t.Up).Network) {
			n.StopTether(t.Down)
		}
	}
	if n.vpn.Name != "" && n.vpn != s.VPN {
		n.StopVPN()
	}
	old := slices.DeleteFunc(slices.Clone(n.networks), func(c *network) bool { return c.Interface == n.vpn.Name || slices.Contains(s.Networks, c.Network) })
	for _, w := range s.Networks {
		if c := n.find(w.Interface); c != nil && c.Network != w { // a carrier reconnects to change its families
			n.Disconnect(w.Interface)
		}
		if n.find(w.Interface) == nil {
			n.Connect(w)
		}
	}
	if len(s.Default) > 1 { // the order of the rules is that of the names
		n.SetDefault(s.Default[0])
	}
	n.SetDefault(s.Default...)
	for _, c := range old {
		if slices.Contains(n.networks, c) {
			n.Disconnect(c.Interface)
		}
	}
	if s.VPN.Name != "" && n.vpn != s.VPN {
		n.StartVPN(s.VPN)
	}
	for _, t := range s.Tethers {
		if !slices.Contains(n.tethers, t) {
			n.StartTether(t)
		}
	}
}

// Airplane disables every radio: the interfaces go down first, then the framework disconnects the
// networks.
func (n *Netd) Airplane() {
	n.t.Helper()
	for _, c := range n.networks {
		if c.Interface != n.vpn.Name {
			n.ip(n.o.Phone, "", "link set "+c.Interface+" down")
		}
	}
	n.ToScene(Offline)
}

// Mark returns the mark that netd gives an app's socket at its connect if the app has not chosen a
// network. On LineageOS it is 0.
func (n *Netd) Mark(uid int) int {
	switch {
	case n.o.System.Lineage || len(n.defaults) == 0:
		return 0
	case n.vpn.Carries(uid):
		return n.vpnNetID()
	}
	return n.find(n.defaults[0]).netID
}

// ExplicitMark returns the mark of a socket whose app has chosen the network of an interface. Only
// the system can choose a restricted network.
func (n *Netd) ExplicitMark(name string) int {
	c := n.find(name)
	if c.Restricted {
		return explicit | system | c.netID
	}
	return explicit | c.netID
}

// ProtectedMark returns the mark of a socket that the VPN app has excluded from its VPN.
func (n *Netd) ProtectedMark() int {
	mark := protected
	if len(n.defaults) > 0 && !n.o.System.Lineage {
		mark |= n.find(n.defaults[0]).netID
	}
	return mark
}

// Forwarding returns the phone's ip_forward, "0" or "1".
func (n *Netd) Forwarding() string {
	n.t.Helper()
	return strings.TrimSpace(n.o.Phone.Shell("cat /proc/sys/net/ipv4/ip_forward"))
}

// Bytes returns the number of bytes that an interface of the phone has sent.
func (n *Netd) Bytes(name string) int {
	n.t.Helper()
	text := strings.TrimSpace(n.o.Phone.Shell("ip -s -o link show " + name + ` | sed 's/.*TX:[^\\]*\\ *//; s/ .*//'`))
	count, err := strconv.Atoi(text)
	if err != nil {
		n.t.Fatalf("bytes sent by %s: %v", name, err)
	}
	return count
}
