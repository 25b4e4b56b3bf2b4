package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// uplinks are the uplinks of a guest in each scene.
var uplinks = map[string]string{
	netd.Offline.Name: "none", netd.Cellular.Name: "rmnet0 (table 1011)", netd.Hotspot.Name: "rmnet0 (table 1011)",
	netd.IPv6Only.Name: "v4-rmnet0", netd.HotspotIPv6.Name: "v4-rmnet0", netd.CellularVPN.Name: "v4-rmnet0",
}

const wlanUplink = "wlan0 via 192.168.1.1 (table 1010)"

// TestUplinkInEveryScene: the uplink is found with the rules of every release in every scene,
// without an endurance run in every second one. The kernel routes the guest's packets through it as
// well.
func TestUplinkInEveryScene(t *testing.T) {
	for i, s := range netd.Systems {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := newPhoneOf(t, flavours[0], s)
			for j, scene := range append(netd.Scenes, netd.HotspotAndUSB, netd.CellularVPN) {
				if (i+j)%2 != 0 && !repeat.Whole() {
					continue
				}
				p.net.ToScene(scene)
				want := uplinks[scene.Name]
				if want == "" {
					want = wlanUplink
				}
				for _, routing := range []Routing{Scoped, MainFirst} {
					u := p.up(sql(routing)).Uplink
					if got := u.String(); !strings.HasPrefix(got, want) {
						t.Errorf("%s, %s: uplink %s, want %s", scene.Name, routing, got, want)
					}
					if want == "none" {
						continue
					}
					p.whole(sql(routing))
					for to, name := range map[string]string{
						netd.ServerIP + " from 192.168.100.2 iif vm_sql": u.Interface, "192.168.100.2": "vm_sql",
						"192.168.100.2 from " + netd.ServerIP + " iif " + u.Interface: "vm_sql",
					} {
						if got := p.sh("ip route get " + to); !strings.Contains(got, "dev "+name) {
							t.Errorf("%s, %s: ip route get %s: %s", scene.Name, routing, to, got)
						}
					}
				}
			}
		})
	}
}

// TestChainsComeFirst: the chains that confine packets exist before our rules, routes and
// interfaces.
func TestChainsComeFirst(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		h := p.host()
		steps := 0
		h.step = func(what string) {
			if what == "ledger" {
				return
			}
			steps++
			if way := p.sh("ip rule; ip -br link"); !strings.Contains(way, "proto 11") && !strings.Contains(way, "vm_sql") {
				return
			}
			text := p.sh("$IPTABLES-save")
			for _, rule := range []string{"-A INPUT -j sov_sql_in", "-A OUTPUT -j sov_sql_out", "-A FORWARD -j sov_sql_fwd", "-A POSTROUTING -j sov_sql_post",
				"-A sov_sql_in -i vm_sql -j DROP", "-A sov_sql_fwd -o vm_sql -j DROP"} {
				if !strings.Contains(text, rule) {
					p.Errorf("%s was made before %s", what, rule)
				}
			}
		}
		if _, err := h.Up(context.Background(), sql(routing)); err != nil {
			p.Fatal(err)
		}
		if _, err := h.Down(context.Background(), "sql"); err != nil {
			p.Fatal(err)
		}
		if steps < 12 {
			p.Errorf("only %d steps", steps)
		}
	})
}

// asking returns a host that has the program ndc.
func (p *phone) asking() *Host {
	p.Helper()
	h, err := Open(Options{Ledger: p.ledger(), IPTables: p.iptables, NDC: p.ndc(), Log: func(s string) { p.Log(s) }})
	if err != nil {
		p.Fatal(err)
	}
	return h
}

func (p *phone) forwarding(when, want string) {
	p.Helper()
	if got := p.net.Forwarding(); got != want {
		p.Errorf("%s: ip_forward is %s, want %s", when, got, want)
	}
}

// TestForwardingByNetd: forwarding is requested from netd under our own name, and again after netd
// has restarted. It is released without affecting other requesters.
func TestForwardingByNetd(t *testing.T) {
	hotspot := netd.Tether{Down: "wlan1", Up: "rmnet0"}
	for _, routing := range []Routing{Scoped, MainFirst} {
		t.Run(string(routing), func(t *testing.T) {
			p := newPhone(t, flavours[0])
			up := func(vm VM) {
				t.Helper()
				if _, err := p.asking().Up(t.Context(), vm); err != nil {
					t.Fatal(err)
				}
			}
			down := func(name string) {
				t.Helper()
				if _, err := p.asking().Down(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			up(sql(routing))
			p.forwarding("up", "1")
			p.net.StartTether(hotspot)
			p.net.StopTether(hotspot.Down)
			p.forwarding("after a hotspot, without another up", "1")
			up(other(routing))
			down("other")
			p.forwarding("one of two down", "1")
			p.net.Restart()
			p.forwarding("netd has started", "0")
			p.net.ToScene(netd.Both)
			p.net.StartTether(hotspot) // before the next up
			up(sql(routing))
			p.net.StopTether(hotspot.Down)
			p.forwarding("after netd's start and a hotspot", "1")
			p.net.StartTether(hotspot)
			down("sql")
			p.forwarding("down beside a hotspot", "1")
			p.net.StopTether(hotspot.Down)
			p.forwarding("everything gone", "0")
			up(sql(routing))
			if err := os.Remove(p.ledger()); err != nil {
				t.Fatal(err)
			}
			down("sql")
			p.forwarding("down without the ledger", "0")
		})
	}
}

// TestForwardingOfTetheringStays: without ndc, or if ndc fails, forwarding stays on as long as any
// part of a tether exists.
func TestForwardingOfTetheringStays(t *testing.T) {
	for name, tt := range map[string]struct {
		ndc    bool
		start  func(p *phone)
		leaves string
	}{
		"no tether":                   {false, func(*phone) {}, "0"},
		"no tether, ndc refuses":      {true, func(*phone) {}, "0"},
		"a hotspot":                   {false, func(p *phone) { p.net.StartTether(netd.Tether{Down: "wlan1", Up: "rmnet0"}) }, "1"},
		"a hotspot, ndc refuses":      {true, func(p *phone) { p.net.StartTether(netd.Tether{Down: "wlan1", Up: "rmnet0"}) }, "1"},
		"a rule of a tether alone":    {false, func(p *phone) { p.sh("ip rule add pref 21000 iif rmnet1 lookup 1010") }, "1"},
		"the chain of a tether alone": {false, func(p *phone) { p.sh("$IPTABLES -w -I tetherctrl_FORWARD -i rmnet1 -j RETURN") }, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, flavours[0])
			host := p.host
			if tt.ndc {
				if err := os.WriteFile(p.ndc(), []byte("#!/bin/sh\necho 501 0 Unknown ipfwd cmd\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				host = p.asking
			}
			if _, err := host().Up(t.Context(), sql(Scoped)); err != nil {
				t.Fatal(err)
			}
			p.forwarding("up", "1")
			tt.start(p)
			if _, err := host().Down(t.Context(), "sql"); err != nil {
				t.Fatal(err)
			}
			p.forwarding("down", tt.leaves)
			if _, err := host().Up(t.Context(), sql(Scoped)); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(p.ledger()); err != nil {
				t.Fatal(err)
			}
			if _, err := host().Down(t.Context(), "sql"); err != nil {
				t.Errorf("down without the ledger: %v", err)
			}
		})
	}
}

// TestSegmentsFitTheUplink: a guest's segments fit the uplink's packets in both directions, and
// follow a change of their size.
func TestSegmentsFitTheUplink(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.net.ToScene(netd.IPv6Only)
	sizes := func(want string) {
		t.Helper()
		p.up(sql(Scoped))
		p.whole(sql(Scoped))
		got := p.sh("$IPTABLES -w -t mangle -S | grep ' sov_sql_mss .*set-mss' || true")
		if strings.Count(got, "--set-mss "+want) != 2 || strings.Count(got, "\n") != 2 {
			t.Errorf("segments:\n%swant %s both ways", got, want)
		}
	}
	sizes("1432") // from 1472, which clat leaves of 1500
	p.sh("ip link set v4-rmnet0 mtu 1400")
	sizes("1360")
	p.net.ToScene(netd.WiFi)
	if p.up(sql(Scoped)); strings.Contains(p.sh("$IPTABLES-save"), "sov_sql_mss") {
		t.Error("a chain is left for segments that fit")
	}
}

// asks returns a machine that leaves its routing to the host.
func asks(servers ...string) VM {
	vm := sql(Auto)
	for _, s := range servers {
		vm.DNS = append(vm.DNS, netip.MustParseAddr(s))
	}
	return vm
}

// TestDecide: a round trip from the guest's address determines the mode.
func TestDecide(t *testing.T) {
	const unassigned = "198.51.100.1" // no machine uses it
	for name, tt := range map[string]struct {
		before func(p *phone)
		vm     VM
		want   Routing
		reason string
	}{
		"scoped carries":    {func(*phone) {}, asks(netd.ServerIP), Scoped, "an answer came back by wlan0"},
		"one of two":        {func(*phone) {}, asks(unassigned, netd.ServerIP), Scoped, "an answer came back by wlan0"},
		"clat":              {func(p *phone) { p.net.ToScene(netd.IPv6Only) }, asks(netd.ServerIP), Scoped, "an answer came back by v4-rmnet0"},
		"lockdown":          {func(p *phone) { p.net.ToScene(netd.Lockdown) }, asks(netd.ServerIP), Scoped, "an answer came back by wlan0"},
		"only main carries": {func(p *phone) { p.sh("ip rule add pref 2 iif vm_sql prohibit") }, asks(netd.ServerIP), MainFirst, "in the mode scoped no answer"},
		"no answer":         {func(*phone) {}, asks(unassigned), Scoped, "no answer came back in either mode"},
		"no name server":    {func(*phone) {}, asks(), Scoped, "no name server"},
		"offline":           {func(p *phone) { p.net.ToScene(netd.Offline) }, asks(netd.ServerIP), Scoped, "no uplink yet"},
		"told":              {func(*phone) {}, sql(MainFirst), MainFirst, "the recipe or the settings"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, flavours[0])
			tt.before(p)
			before := p.snapshot()
			got, report, err := p.host().Decide(t.Context(), tt.vm)
			// A busy computer may answer later than the phone waits.
			for tries := 0; tries < 3 && err == nil && strings.Contains(got.Reason, "no answer came back") && !strings.Contains(tt.reason, "no answer"); tries++ {
				got, report, err = p.host().Decide(t.Context(), tt.vm)
			}
			if err != nil || got.Routing != tt.want || !strings.Contains(got.Reason, tt.reason) {
				t.Fatalf("%+v, %v; want %s, %s", got, err, tt.want, tt.reason)
			}
			if tt.vm.Routing == Auto && name != "no answer" && (tt.want == MainFirst) != strings.Contains(strings.Join(report.Changed, ""), "from all lookup main") {
				t.Errorf("changed %v", report.Changed)
			}
			// A later check of a machine that also leaves the choice to the host finds nothing
			// wrong and changes nothing.
			if name != "offline" {
				p.whole(tt.vm)
			}
			if report := p.up(tt.vm); len(report.Changed) > 0 {
				t.Errorf("another up changed %v", report.Changed)
			}
			if left := p.sh("ip neigh show dev vm_sql"); strings.Contains(left, "192.168.100.2") && !strings.Contains(left, "FAILED") {
				t.Errorf("the guest's stand-in is left among the neighbours: %s", left)
			}
			p.down("sql")
			p.same("after down", before, p.snapshot())
		})
	}
}

// TestWarnings: main-first warns about the traffic that it affects. scoped affects none.
func TestWarnings(t *testing.T) {
	const vpn, lockdown, chosen = "the traffic of the VPN on tun0", "bypasses the phone's lockdown", "send by rmnet0, which they chose"
	for _, s := range []netd.System{netd.AOSP, netd.LineageOS} {
		t.Run(s.Name, func(t *testing.T) {
			p := newPhoneOf(t, flavours[0], s)
			for _, tt := range []struct {
				scene netd.Scene
				want  []string
			}{
				{netd.Offline, nil}, {netd.WiFi, nil}, {netd.Cellular, nil}, {netd.Hotspot, nil}, {netd.IPv6Only, nil}, {netd.HotspotIPv6, nil},
				{netd.IMS, []string{"send by rmnet1, which they chose"}},
				{netd.Both, []string{chosen}},
				{netd.FullVPN, []string{vpn}},
				{netd.Lockdown, []string{vpn, lockdown}},
				{netd.SplitVPN, []string{vpn}},
				{netd.BypassableVPN, []string{vpn}},
				{netd.BypassableVPNNoLAN, []string{vpn}},
				{netd.HotspotAndUSB, []string{chosen, "what clients of wlan1 send by rmnet0"}},
			} {
				p.net.ToScene(tt.scene)
				got := p.up(sql(MainFirst)).Warnings
				missing := slices.ContainsFunc(tt.want, func(want string) bool { return !strings.Contains(strings.Join(got, "\n"), want) })
				if len(got) != len(tt.want) || missing {
					t.Errorf("%s: %q, want %q", tt.scene.Name, got, tt.want)
				}
				if got := p.up(sql(Scoped)).Warnings; len(got) > 0 {
					t.Errorf("%s: scoped takes %q", tt.scene.Name, got)
				}
			}
		})
	}
}

// TestWithoutOwnerMatch: a kernel that cannot distinguish users leaves the guest open to apps. A
// warning reports it.
func TestWithoutOwnerMatch(t *testing.T) {
	p := newPhone(t, flavours[0])
	before := p.snapshot()
	bin := filepath.Join(p.dir, "bin")
	script := fmt.Sprintf("#!/bin/sh\nscript=$(cat); case $script in *'-m owner'*) echo 'owner: no such match' >&2; exit 1 ;; esac\necho \"$script\" | exec %s-restore \"$@\"\n", p.iptables)
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "iptables-restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p.iptables, filepath.Join(bin, "iptables")); err != nil {
		t.Fatal(err)
	}
	p.iptables, script = filepath.Join(bin, "iptables"), p.iptables
	report := p.up(sql(Scoped))
	p.iptables = script
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "its apps reach every port of the guest") {
		t.Errorf("warnings: %q", report.Warnings)
	}
	if text := p.sh("$IPTABLES-save"); strings.Contains(text, "sov_sql_out") || !strings.Contains(text, "-A INPUT -j sov_sql_in") {
		t.Errorf("chains:\n%s", text)
	}
	p.down("sql")
	p.same("after down", before, p.snapshot())
}

// TestNetdStartsAgain: after a restart of netd, one up re-creates all our resources.
func TestNetdStartsAgain(t *testing.T) {
	for _, flavour := range flavours {
		for _, routing := range []Routing{MainFirst, Scoped} {
			t.Run(flavour+"/"+string(routing), func(t *testing.T) {
				p := newPhone(t, flavour)
				p.up(sql(routing))
				p.up(other(routing))
				p.net.Restart()
				for _, vm := range []VM{sql(routing), other(routing)} {
					began := time.Now()
					p.up(vm)
					t.Logf("%s is back after %v", vm.Name, time.Since(began).Round(time.Millisecond))
				}
				for _, vm := range []VM{sql(routing), other(routing)} {
					for _, f := range p.findings(vm) {
						if f.Found != "no uplink" {
							t.Errorf("%+v", f)
						}
					}
				}
			})
		}
	}
}

// BenchmarkNetdStartsAgain measures the up that re-creates all our resources after a restart of
// netd.
func BenchmarkNetdStartsAgain(b *testing.B) {
	p := newPhone(b, flavours[0])
	h := p.host()
	for b.Loop() {
		b.StopTimer()
		p.net.Restart()
		b.StartTimer()
		if _, err := h.Up(context.Background(), sql(Scoped)); err != nil {
			b.Fatal(err)
		}
	}
}
