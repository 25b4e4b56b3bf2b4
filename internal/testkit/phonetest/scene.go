package phonetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// Reach is a machine's access policy: the guest's ports that apps may reach, and the networks that
// the guest may reach (see package vmspec).
type Reach struct {
	Phone  []int
	Egress []string
}

// Allow sets the access policy for the next start of a light machine.
func (h *Handset) Allow(r Reach) {
	h.T.Helper()
	text, err := os.ReadFile(h.File(h.VM.Slot("a") + "/" + artifact.SpecFile))
	if err != nil {
		h.T.Fatal(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		h.T.Fatal(err)
	}
	spec.Network.Phone, spec.Network.Egress = r.Phone, r.Egress
	if text, err = spec.Encode(); err != nil {
		h.T.Fatal(err)
	}
	h.Alter(h.VM, artifact.SpecFile, text)
}

// refusal is the timeout of connections that must fail.
const refusal = 700 * time.Millisecond

// A Row is a phone in a network scene, with a routing mode.
type Row struct {
	System  netd.System
	Scene   netd.Scene
	Routing vmspec.Routing
}

func (r Row) String() string {
	return fmt.Sprintf("%s, %s, %s", r.System.Name, r.Scene.Name, r.Routing)
}

// Rows returns all systems in all scenes, and in some scenes that are not in netd.Scenes, in each
// of the routing modes.
func Rows(routings ...vmspec.Routing) []Row {
	var out []Row
	for _, s := range netd.Systems {
		for _, scene := range append(netd.Scenes, netd.HotspotAndUSB, netd.CellularVPN) {
			for _, routing := range routings {
				out = append(out, Row{s, scene, routing})
			}
		}
	}
	return out
}

// guestAddress is the address of the light machine.
const guestAddress = "192.168.100.2"

// LiveThrough starts a light machine on a phone in a scene, and stops it. The guest must reach the
// internet, and only the runner may reach the guest. Other traffic on the phone must keep its
// route; the mode main-first may change it, with a warning. After the stop, the phone's network
// must be exactly as before.
func LiveThrough(t *testing.T, r Row) {
	h := &Handset{Phone: androidtest.New(t, androidtest.Options{InMemory: true, System: r.System}), T: t}
	h.VM = h.InstallLight("sql", r.Routing, lightguest.Script{})
	h.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5}`, 0o644)
	h.Net.ServeAddress()
	h.ServeAddress()
	h.Net.ToScene(r.Scene)
	before := h.Snapshot()
	ways := h.ways(r)
	foreseen := h.Status().Network.Warnings
	h.Do("up", "sql")
	s := h.Status()
	if !slices.Equal(foreseen, s.Network.Warnings) {
		t.Errorf("%s: before the start, status tells of %q, and then of %q", r, foreseen, s.Network.Warnings)
	}
	if want := map[vmspec.Routing]vmspec.Routing{vmspec.Auto: vmspec.Scoped}[r.Routing]; s.Phase != runnerapi.Ready || want != "" && s.Network.Routing != string(want) {
		t.Errorf("%s: the machine is %s, %s, routed by %s, %s", r, s.Phase, s.Reason, s.Network.Routing, s.Network.Reason)
	}
	if got, want := h.GoOut(), uplinkAddress(r.Scene); got != want {
		t.Errorf("%s: the guest is seen as %q, want %q", r, got, want)
	}
	taken := differences(ways, h.ways(r))
	if (len(taken) > 0) != (len(s.Network.Warnings) > 0) || len(taken) > 0 && r.Routing != vmspec.MainFirst {
		t.Errorf("%s: while the machine runs, %q; status tells of %q", r, taken, s.Network.Warnings)
	}
	h.carried(r)
	h.unreachable(r)
	h.confined(r)
	h.Do("down", "sql")
	SameNetwork(t, fmt.Sprintf("%s: after down", r), before, h.Snapshot())
	if lost := differences(ways, h.ways(r)); len(lost) > 0 {
		t.Errorf("%s: after down, %q", r, lost)
	}
}

// differences lists the apps whose address has changed.
func differences(before, after map[string]string) []string {
	var out []string
	for who, was := range before {
		if is := after[who]; is != was {
			out = append(out, fmt.Sprintf("%s is seen as %q, and was as %q", who, is, was))
		}
	}
	return out
}

// carried fails the test if an app's traffic that belongs to a VPN leaves through another
// interface, according to the interfaces' counters.
func (h *Handset) carried(r Row) {
	h.T.Helper()
	app := netd.AppUID
	if r.Scene.VPN.App != 0 {
		app = r.Scene.VPN.App
	}
	if r.Routing == vmspec.MainFirst || !r.Scene.VPN.Carries(app) {
		return
	}
	// These connections transfer at least so many bytes together; address resolution and the like
	// transfer less.
	const connections, handshake = 8, 200
	tunnel, uplink := h.Net.Bytes(r.Scene.VPN.Name), h.Net.Bytes(r.Scene.Default[0])
	for range connections {
		if _, err := h.Net.App(app).SeenAs(h.PID(), netd.ServerIP); err != nil {
			h.T.Errorf("%s: %v", r, err)
		}
	}
	tunnel, uplink = h.Net.Bytes(r.Scene.VPN.Name)-tunnel, h.Net.Bytes(r.Scene.Default[0])-uplink
	h.T.Logf("%s: an app's connections took %d bytes by the VPN, %d by %s", r, tunnel, uplink, r.Scene.Default[0])
	if tunnel < connections*handshake || uplink > connections*handshake/2 {
		h.T.Errorf("%s: an app's connections took %d bytes by the VPN, and %d past it", r, tunnel, uplink)
	}
}

// uplinkAddress returns the address at which a guest is seen in a scene, or "" without an uplink.
func uplinkAddress(s netd.Scene) string {
	if len(s.Default) == 0 {
		return ""
	}
	name := s.Default[0]
	for _, n := range s.Networks {
		if n.Interface == name && n.IPv6Only {
			return netd.ClatIP
		}
	}
	return map[string]string{"wlan0": netd.WLANIP, "rmnet0": netd.MobileIP}[name]
}

// ways returns the addresses at which other programs on the phone, and tethered clients, are seen.
func (h *Handset) ways(r Row) map[string]string {
	h.T.Helper()
	seen := func(d netd.Dialer, server string, pid int) string {
		d.Timeout = refusal
		address, err := d.SeenAs(pid, server)
		if err != nil {
			return "not reachable"
		}
		return address
	}
	out := map[string]string{}
	for _, server := range []string{netd.ServerIP, netd.ServerIP6} {
		out["an app, by "+server] = seen(h.Net.App(netd.AppUID), server, h.PID())
		if !r.System.Lineage { // in LineageOS root has no route, and main-first adds one
			out["root, by "+server] = seen(netd.Dialer{}, server, h.PID())
		}
		if app := r.Scene.VPN.App; app != 0 {
			out["the VPN's app, by "+server] = seen(h.Net.App(app), server, h.PID())
		}
		for _, n := range r.Scene.Networks {
			out["who chose "+n.Interface+", by "+server] = seen(netd.Dialer{UID: netd.AppUID, Mark: h.Net.ExplicitMark(n.Interface)}, server, h.PID())
		}
		if r.Scene.VPN.Lockdown {
			h.Shell("ip link set tun0 down")
			out["an app in lockdown without its VPN, by "+server] = seen(h.Net.App(netd.AppUID), server, h.PID())
			h.Net.RestoreVPN()
		}
	}
	for _, tether := range r.Scene.Tethers {
		out["a client of "+tether.Down] = seen(netd.Dialer{}, netd.ServerIP, h.Net.Client(tether.Down).PID)
	}
	return out
}

// unreachable fails the test if an app reaches the guest in any way.
func (h *Handset) unreachable(r Row) {
	h.T.Helper()
	for _, port := range []int{lightguest.PostgresPort, guestspec.EndpointPort} {
		for who, err := range h.Apps(r.Scene, port) {
			if err == nil {
				h.T.Errorf("%s: %s reaches port %d of the guest", r, who, port)
			}
		}
	}
	if got := h.Shell("ip -6 address show dev vm_sql; cat /proc/sys/net/ipv6/conf/vm_sql/disable_ipv6"); strings.TrimSpace(got) != "1" {
		h.T.Errorf("%s: the TAP interface has IPv6: %s", r, got)
	}
}

// Apps connects to a port of the guest as apps do, in every way that they have, and returns the
// error of each.
func (h *Handset) Apps(s netd.Scene, port int) map[string]error {
	h.T.Helper()
	tries := map[string]netd.Dialer{"an app": h.Net.App(netd.AppUID), "an app bound to the TAP interface": {UID: netd.AppUID, Device: "vm_sql"},
		"an app without a mark": {UID: netd.AppUID}, "the shell": {UID: shellUser}}
	if len(s.Networks) > 0 {
		tries["an app that chose its network"] = netd.Dialer{UID: netd.AppUID, Mark: h.Net.ExplicitMark(s.Networks[0].Interface)}
	}
	out := map[string]error{}
	for who, d := range tries {
		d.Timeout = refusal
		out[who] = h.InNetwork(func() error {
			conn, err := d.Dial("tcp", net.JoinHostPort(guestAddress, strconv.Itoa(port)))
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	return out
}

// shellUser is Android's AID_SHELL.
const shellUser = 2000

// confined fails the test if the guest reaches the phone's own ports or another computer in the
// phone's LAN.
func (h *Handset) confined(r Row) {
	h.T.Helper()
	for what, answer := range h.Beyond() {
		if answer != "" {
			h.T.Errorf("%s: the guest reaches %s, which says %q", r, what, answer)
		}
	}
}

// The keys of Beyond's result: places that a guest may reach only if its recipe permits it.
const (
	TAPPort  = "the phone's port at the TAP interface"
	WiFiPort = "the phone's port at the Wi-Fi"
	LANHost  = "a computer in the LAN"
)

// Beyond makes the guest connect to the phone's own ports and to another computer in the phone's
// LAN, and returns the first data from each.
func (h *Handset) Beyond() map[string]string {
	h.T.Helper()
	var own net.Listener
	err := h.InNetwork(func() (err error) {
		own, err = net.Listen("tcp", "0.0.0.0:22")
		return err
	})
	if err != nil {
		h.T.Fatal(err)
	}
	defer own.Close()
	go func() {
		for {
			conn, err := own.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "a port of the phone's")
			conn.Close()
		}
	}()
	return map[string]string{TAPPort: h.ask("192.168.100.1:22", refusal), WiFiPort: h.ask(netd.WLANIP+":22", refusal),
		LANHost: h.ask(net.JoinHostPort(netd.LANHost, strconv.Itoa(netd.EchoPort)), refusal)}
}

// ask makes the guest connect to an address and returns the first data from there.
func (h *Handset) ask(address string, patience time.Duration) string {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), time.Minute)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort(guestAddress, strconv.Itoa(lightguest.RelayPort)))
	if err != nil {
		h.T.Fatalf("connect to the guest: %v\n%s", err, h.Logs())
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\n", address)
	conn.SetDeadline(time.Now().Add(patience))
	answer := make([]byte, 256)
	n, _ := conn.Read(answer)
	return string(answer[:n])
}

// LiveWithHotspot starts a light machine on a phone, switches a hotspot on and off meanwhile, and
// leaves it on when the machine stops. Machine and hotspot must not disable each other's
// forwarding.
func LiveWithHotspot(t *testing.T, r Row, o androidtest.Options) {
	o.InMemory, o.System = true, r.System
	h := &Handset{Phone: androidtest.New(t, o), T: t}
	h.VM = h.InstallLight("sql", r.Routing, lightguest.Script{})
	h.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5}`, 0o644)
	h.Net.ServeAddress()
	h.ServeAddress()
	h.Net.ToScene(netd.Cellular)
	tether := netd.Tether{Down: "wlan1", Up: "rmnet0"}
	client := func(when string) {
		t.Helper()
		d := netd.Dialer{Timeout: refusal}
		if got, err := d.SeenAs(h.Net.Client(tether.Down).PID, netd.ServerIP); got != netd.MobileIP {
			t.Errorf("%s: %s, the hotspot's client is seen as %q: %v", r, when, got, err)
		}
	}
	h.Do("up", "sql")
	h.Net.StartTether(tether)
	client("beside the machine")
	h.Net.StopTether(tether.Down)
	stopped := time.Now()
	h.Eventually("out after the hotspot's end", func() bool { return h.GoOut() == netd.MobileIP })
	t.Logf("%s: the guest goes out %v after the hotspot's end", r, time.Since(stopped).Round(time.Millisecond))
	h.Net.StartTether(tether)
	h.Do("down", "sql")
	client("after the machine's end")
	h.Do("up", "sql")
	client("with the machine started beside it")
	h.Do("down", "sql")
	client("after another end of the machine")
	h.Net.StopTether(tether.Down)
	if got := h.Net.Forwarding(); got != "0" {
		t.Errorf("%s: with machine and hotspot gone, ip_forward is %s", r, got)
	}
}

// lostConnection is shorter than the guest's timeout for connections (10 s).
const lostConnection = 9 * time.Second

// OutliveNetd starts a light machine and crashes netd. The guest must reach the internet as soon as
// the phone's network is back.
func OutliveNetd(t *testing.T, r Row) {
	h := &Handset{Phone: androidtest.New(t, androidtest.Options{InMemory: true, System: r.System}), T: t}
	h.VM = h.InstallLight("sql", r.Routing, lightguest.Script{})
	h.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5}`, 0o644)
	h.ServeAddress()
	h.Net.ToScene(r.Scene)
	h.Do("up", "sql")
	h.Net.Restart()
	h.Eventually("everything of ours but the way out", func() bool { return h.ours() })
	crashed := time.Now()
	h.Net.ToScene(r.Scene)
	h.Eventually("out after netd's restart", func() bool { return h.GoOut() == uplinkAddress(r.Scene) })
	took := time.Since(crashed).Round(time.Millisecond)
	t.Logf("%s: the guest goes out %v after the network's return", r, took)
	if took > lostConnection {
		t.Errorf("%s: the guest goes out %v after the network's return: connections that it tried meanwhile were lost", r, took)
	}
	h.Do("down", "sql")
	if left := h.Shell("ip rule; ip -6 rule; /system/bin/iptables-save; /system/bin/ip6tables-save"); strings.Contains(left, "sov_") || strings.Contains(left, "proto 11") {
		t.Errorf("%s: after down:\n%s", r, left)
	}
}

// ours reports whether the machine's rule for answers and its chains exist, and forwarding is on.
func (h *Handset) ours() bool {
	h.T.Helper()
	text := h.Shell("ip rule; cat /proc/sys/net/ipv4/ip_forward; /system/bin/iptables-save")
	return strings.Contains(text, "-A FORWARD -j sov_sql_fwd") && strings.Contains(text, "-A POSTROUTING -j sov_sql_post") && strings.Contains(text, "proto 11") && strings.Contains(text, "\n1\n")
}
