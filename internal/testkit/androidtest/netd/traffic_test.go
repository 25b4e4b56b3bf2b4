package netd

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// seen returns the address from which the server sees an app connect, or "nothing".
func (n *Netd) seen(d Dialer, server string) string {
	d.Timeout = time.Second
	address, err := d.SeenAs(n.o.Phone.PID, server)
	if err != nil {
		return "nothing"
	}
	return address
}

// TestAppsTraffic checks which path an app's connections take in the scenes of both families.
func TestAppsTraffic(t *testing.T) {
	const nothing = "nothing"
	for _, s := range []System{AOSP, LineageOS, Systems[4]} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			n := newNetd(t, s)
			n.ServeAddress()
			for _, tt := range []struct {
				scene       Scene
				uid         int
				want, want6 string
			}{
				{Offline, AppUID, nothing, nothing},
				{WiFi, AppUID, WLANIP, WLANIP6},
				{Both, AppUID, WLANIP, WLANIP6},
				{Cellular, AppUID, MobileIP, MobileIP6},
				{IPv6Only, AppUID, ClatIP, MobileIP6},
				{IMS, AppUID, WLANIP, WLANIP6},
				{FullVPN, AppUID, VPNIP, VPNIP6},
				{Lockdown, AppUID, VPNIP, VPNIP6},
				{SplitVPN, SplitUID, VPNIP, VPNIP6},
				{SplitVPN, AppUID, WLANIP, WLANIP6},
				{BypassableVPN, AppUID, VPNIP, VPNIP6},
				{BypassableVPNNoLAN, AppUID, VPNIP, VPNIP6},
				{Hotspot, AppUID, MobileIP, MobileIP6},
				{CellularVPN, AppUID, VPNIP, VPNIP6},
			} {
				n.ToScene(tt.scene)
				for server, want := range map[string]string{ServerIP: tt.want, ServerIP6: tt.want6} {
					if got := n.seen(n.App(tt.uid), server); got != want {
						t.Errorf("%s: uid %d is seen by %s as %s, want %s", tt.scene.Name, tt.uid, server, got, want)
					}
				}
			}
			n.ToScene(Both)
			if got := n.seen(Dialer{UID: AppUID, Mark: n.ExplicitMark("rmnet0")}, ServerIP); got != MobileIP {
				t.Errorf("an app that chose rmnet0 is seen as %s", got)
			}
			n.ToScene(Lockdown)
			n.o.Phone.Shell("ip link set tun0 down")
			if got := n.seen(n.App(AppUID), ServerIP); got != nothing {
				t.Errorf("in lockdown, with the VPN down, an app is seen as %s", got)
			}
			if got := n.seen(Dialer{UID: VPNUID, Mark: explicit | protected | n.find("wlan0").netID}, ServerIP); got != WLANIP {
				t.Errorf("in lockdown, the VPN app itself is seen as %s", got)
			}
		})
	}
}

// TestHotspot checks that a hotspot's client connects through the hotspot's upstream network. The
// hotspot's end disables forwarding, unless another requester needs it. A restart of netd loses the
// requests.
func TestHotspot(t *testing.T) {
	n := newNetd(t, AOSP)
	n.ServeAddress()
	// A busy computer may answer late. A missing answer is certain after a second.
	ask := func(down, want string) string {
		patience := 30 * time.Second
		if want == "nothing" {
			patience = time.Second
		}
		address, err := Dialer{Timeout: patience}.SeenAs(n.Client(down).PID, ServerIP)
		if err != nil {
			return "nothing"
		}
		return address
	}
	for scene, want := range map[string]string{Hotspot.Name: MobileIP, HotspotIPv6.Name: ClatIP} {
		n.ToScene(Scenes[slices.IndexFunc(Scenes, func(s Scene) bool { return s.Name == scene })])
		if got := ask("wlan1", want); got != want || n.Forwarding() != "1" {
			t.Errorf("%s: a client is seen as %s, want %s; ip_forward is %s", scene, got, want, n.Forwarding())
		}
		n.ToScene(Cellular)
		if got := ask("wlan1", "nothing"); got != "nothing" || n.Forwarding() != "0" {
			t.Errorf("after %s, a client is seen as %s; ip_forward is %s", scene, got, n.Forwarding())
		}
	}
	n.ToScene(HotspotAndUSB)
	if hotspot, usb := ask("wlan1", MobileIP), ask("rndis0", WLANIP); hotspot != MobileIP || usb != WLANIP {
		t.Errorf("clients of hotspot and USB are seen as %s and %s", hotspot, usb)
	}
	n.StopTether("wlan1")
	if hotspot, usb := ask("wlan1", "nothing"), ask("rndis0", WLANIP); hotspot != "nothing" || usb != WLANIP || n.Forwarding() != "1" {
		t.Errorf("without the hotspot, clients are seen as %s and %s; ip_forward is %s", hotspot, usb, n.Forwarding())
	}
	n.requester("enable", "other")
	n.ToScene(Cellular)
	if n.Forwarding() != "1" {
		t.Error("the end of the hotspot disabled forwarding that another requester needs")
	}
	n.Restart()
	if n.Forwarding() != "0" {
		t.Error("netd's start left forwarding on")
	}
}

// TestRestart checks what netd's start removes and keeps.
func TestRestart(t *testing.T) {
	for _, s := range []System{AOSP, LineageOS} {
		n := newNetd(t, s)
		boot, rules := n.o.Phone.Shell("$IPTABLES-save; $IP6TABLES-save"), n.dump("-4")
		if !strings.Contains(boot, ":FORWARD ACCEPT") || !strings.Contains(boot, "-A tetherctrl_FORWARD -j DROP") {
			t.Errorf("the chains at boot:\n%s", boot)
		}
		n.ToScene(Hotspot)
		n.o.Phone.Shell(`ip rule add pref 1 lookup main; ip rule add pref 21500 iif rmnet0 lookup main; ip route add 192.0.2.0/24 dev rmnet0 table 1011
			for c in INPUT FORWARD OUTPUT; do $IPTABLES -w -N x_$c; $IPTABLES -w -I $c -j x_$c; done
			$IPTABLES -w -t nat -N x_POST; $IPTABLES -w -t nat -I POSTROUTING -j x_POST`)
		n.Restart()
		if got := n.dump("-4"); got != rules {
			t.Errorf("rules after a restart:\n%s\nwant\n%s", got, rules)
		}
		after := n.o.Phone.Shell("$IPTABLES-save")
		for rule, stays := range map[string]bool{"-A FORWARD -j x_FORWARD": false, "-A INPUT -j x_INPUT": false, "-A OUTPUT -j x_OUTPUT": true,
			"-A POSTROUTING -j x_POST": false, ":x_POST -": true, "tetherctrl_nat_POSTROUTING -o rmnet0": false} {
			if strings.Contains(after, rule) != stays {
				t.Errorf("after a restart, %q is there: %t, want %t", rule, !stays, stays)
			}
		}
		if !strings.Contains(n.o.Phone.Shell("ip route show table 1011"), "192.0.2.0/24") {
			t.Error("a restart flushed a routing table")
		}
		n.ToScene(WiFi)
		if got, want := n.dump("-4"), list(t, s, WiFi); got != want {
			t.Errorf("after a restart and Wi-Fi's return:\n%s\nwant\n%s", got, want)
		}
	}
}

var netID = regexp.MustCompile(`(0x[0-9a-f]*)(6[4-9a-f]|[7-9a-f][0-9a-f])(/)`)

// canonical returns a dump without netIds, which count up, and with sorted lines.
func canonical(dump string) string {
	lines := strings.Split(netID.ReplaceAllString(dump, "${1}NN$3"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestAnySceneAfterAny checks that a scene has the same rules, except for netIds, after any events.
func TestAnySceneAfterAny(t *testing.T) {
	random := rand.New(rand.NewPCG(repeat.Seed(t), 0))
	for _, s := range []System{AOSP, LineageOS} {
		n := newNetd(t, s)
		story := []string{}
		for range repeat.Times(t, 12, 200) {
			scene := Scenes[random.IntN(len(Scenes))]
			story = append(story, scene.Name)
			switch random.IntN(6) {
			case 0:
				n.Airplane()
			case 1:
				n.Restart()
			}
			n.ToScene(scene)
			if got, want := canonical(n.dump("-4")), canonical(list(t, s, scene)); got != want {
				t.Fatalf("%s: after %s:\n%s\nwant\n%s", s.Name, strings.Join(story, ", "), got, want)
			}
		}
	}
}
