package androidtest

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// Addresses of the simulated network, and the ID of an app.
const (
	ServerIP = netd.ServerIP
	WLANIP   = netd.WLANIP
	MobileIP = netd.MobileIP
	VPNIP    = netd.VPNIP
	VPNUID   = netd.SplitUID // of the app whose traffic AddVPN's VPN carries
)

const (
	requesters = "props/ipfwd" // requesters of forwarding
	ndcProgram = "system/bin/ndc"
)

// connect creates the phone's network, starts its netd, and connects Wi-Fi and mobile data.
func (p *Phone) connect(o Options) {
	p.t.Helper()
	// netd keeps its requesters in memory: a boot clears them.
	if err := errors.Join(os.RemoveAll(p.path(requesters)), os.Mkdir(p.path(requesters), 0o755)); err != nil {
		p.t.Fatal(err)
	}
	os.Remove(p.path(ndcProgram)) // from the previous boot
	if !o.NoNDC {
		if err := netd.WriteNDC(p.path(ndcProgram), "/"+requesters); err != nil {
			p.t.Fatal(err)
		}
	}
	place := func(pid int) netd.Place {
		return netd.Place{PID: pid, Shell: func(script string) string {
			p.t.Helper()
			return p.output(enter(p.t.Context(), pid, []string{"--net"}, []string{"/bin/sh", "-euc", script}), script)
		}}
	}
	p.Net = netd.New(p.t, netd.Options{
		System: o.System, State: "/" + requesters, Internet: place(p.internet.Process.Pid),
		Phone:    netd.Place{PID: p.phone.Process.Pid, Shell: p.Shell},
		NewPlace: func() netd.Place { return place(p.namespaces(syscall.CLONE_NEWNET).Process.Pid) },
	})
	p.Net.ToScene(netd.Both)
}

// SwitchUplink makes the network of "wlan0" or "rmnet0" the default network. An empty name leaves
// the phone without a default network.
func (p *Phone) SwitchUplink(name string) {
	p.t.Helper()
	if name == "" {
		p.Net.SetDefault()
		return
	}
	p.Net.SetDefault(name)
}

// UplinkDown takes an interface down. The kernel removes its routes.
func (p *Phone) UplinkDown(name string) {
	p.t.Helper()
	p.Shell("ip link set " + name + " down")
}

// AddVPN connects a VPN for one app, VPNUID. The internet's server is the VPN's other end.
func (p *Phone) AddVPN() {
	p.t.Helper()
	p.Net.StartVPN(netd.VPN{Name: "tun0", App: VPNUID})
}

var volatile = regexp.MustCompile(`\[\d+:\d+\]|(?m)^#.*\n|@\w+|qlen \d+| linkdown|NO-CARRIER,|\b(UP|DOWN|UNKNOWN) +`)

// Snapshot returns the phone's network configuration, see [Configuration].
func (p *Phone) Snapshot() string {
	p.t.Helper()
	return Configuration(p.Shell, "/system/bin/iptables-save; /system/bin/ip6tables-save")
}

// Configuration returns the part of a namespace's network configuration that a machine may change:
// rules, routes, interfaces, addresses, iptables and sysctls. Compare it line by line. It omits
// packet counters, and the operational state of interfaces with its consequences, which the kernel
// updates with a delay (net/core/link_watch.c). shell runs a script in the namespace; save are the
// commands that print iptables' rules.
func Configuration(shell func(script string) string, save string) string {
	// In an assignment the status of ip, the last command, counts. The sort keeps the order of an
	// interface's two lines, of rules with the same priority, and of routes to the same destination.
	return volatile.ReplaceAllString(shell(`set -e
		v4=$(printf 'rule\nroute show table all\n' | ip -4 -batch -); v6=$(printf 'rule\nroute show table all proto static\n' | ip -6 -batch -)
		links=$(printf 'link\naddr\n' | ip -brief -4 -batch -)
		for lines in "$v4" "$v6" "$links"; do echo "$lines" | sort -s -k 1,1; done
		`+save+`
		cd /proc/sys/net/ipv4; grep -s . ip_forward conf/*/rp_filter || true # an interface may go meanwhile`), "")
}

// Differences returns the lines that are in only one of two texts: "gone: …" for lines of before,
// "new: …" for lines of after. Of texts with the same lines it returns where their order first
// differs.
func Differences(before, after string) []string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out []string
	for _, line := range was {
		if !slices.Contains(is, line) {
			out = append(out, "gone: "+line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			out = append(out, "new: "+line)
		}
	}
	for i := 0; len(out) == 0 && i < min(len(was), len(is)); i++ {
		if was[i] != is[i] {
			out = append(out, "moved: "+was[i], "in its place: "+is[i])
		}
	}
	return out
}
