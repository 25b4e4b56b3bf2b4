package phone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestScenes runs a machine in three scenes. The endurance tests run every system in every scene.
func TestScenes(t *testing.T) {
	t.Parallel()
	for _, r := range []phonetest.Row{
		{System: netd.AOSP, Scene: netd.Lockdown, Routing: vmspec.Auto},
		{System: netd.LineageOS, Scene: netd.HotspotIPv6, Routing: vmspec.Auto},
		{System: netd.AOSP, Scene: netd.SplitVPN, Routing: vmspec.MainFirst},
	} {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			phonetest.LiveThrough(t, r)
		})
	}
}

// TestHotspotBesideTheMachine checks that neither the machine nor a hotspot turns off the
// forwarding that the other needs, with ndc and without it.
func TestHotspotBesideTheMachine(t *testing.T) {
	t.Parallel()
	for _, r := range []phonetest.Row{{System: netd.AOSP, Routing: vmspec.Auto}, {System: netd.LineageOS, Routing: vmspec.MainFirst}} {
		for name, o := range map[string]androidtest.Options{"with ndc": {}, "without ndc": {NoNDC: true}} {
			t.Run(r.System.Name+" "+name, func(t *testing.T) {
				t.Parallel()
				phonetest.LiveWithHotspot(t, r, o)
			})
		}
	}
}

func TestNetdRestartsUnderTheMachine(t *testing.T) {
	t.Parallel()
	for _, r := range []phonetest.Row{
		{System: netd.AOSP, Scene: netd.Both, Routing: vmspec.Auto}, {System: netd.LineageOS, Scene: netd.FullVPN, Routing: vmspec.Auto},
		{System: netd.AOSP, Scene: netd.IPv6Only, Routing: vmspec.MainFirst},
	} {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			phonetest.OutliveNetd(t, r)
		})
	}
}

// TestReachOfTheRecipe checks that apps reach only the ports that the recipe opens to them, and
// that the guest reaches only what the recipe allows.
func TestReachOfTheRecipe(t *testing.T) {
	t.Parallel()
	const database, endpoint = lightguest.PostgresPort, guestspec.EndpointPort
	for name, tt := range map[string]struct {
		reach  phonetest.Reach
		beyond map[string]bool
	}{
		"a port":    {phonetest.Reach{Phone: []int{database}}, nil},
		"the LAN":   {phonetest.Reach{Egress: []string{vmspec.EgressLAN}}, map[string]bool{phonetest.LANHost: true}},
		"the phone": {phonetest.Reach{Egress: []string{vmspec.EgressPhone}}, map[string]bool{phonetest.TAPPort: true, phonetest.WiFiPort: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLight(t, vmspec.Auto, lightguest.Script{}, `{}`)
			h.Net.ServeAddress()
			h.Allow(tt.reach)
			before := h.Snapshot()
			h.Do("up", "sql")
			for port, open := range map[int]bool{database: len(tt.reach.Phone) > 0, endpoint: false} {
				for who, err := range h.Apps(netd.Both, port) {
					if (err == nil) != open {
						t.Errorf("%s, port %d: %v; open should be %t", who, port, err, open)
					}
				}
			}
			for what, answer := range h.Beyond() {
				if (answer != "") != tt.beyond[what] {
					t.Errorf("the guest at %s: %q; reached should be %t", what, answer, tt.beyond[what])
				}
			}
			h.Do("down", "sql")
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
		})
	}
}

// TestOnlyMainFirstCarries checks that a machine with routing auto runs in main-first mode if no
// other mode works. Its status must report that and what the mode takes from a VPN.
func TestOnlyMainFirstCarries(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.Auto, lightguest.Script{}, `{}`)
	h.ServeAddress()
	h.Net.ToScene(netd.FullVPN)
	h.Shell("ip rule add pref 2 iif vm_sql prohibit") // as a vendor may add
	before := h.Snapshot()
	if o := h.Do("up", "sql"); !strings.Contains(o.Stderr, "warning: routing main-first takes the traffic of the VPN on tun0") {
		t.Errorf("up does not warn: %s", o.Stderr)
	}
	s := h.Status().Network
	if s.Routing != string(vmspec.MainFirst) || !strings.Contains(s.Reason, "no answer came back") || len(s.Warnings) == 0 {
		t.Errorf("status: %+v", s)
	}
	if got := h.GoOut(); got != androidtest.WLANIP {
		t.Errorf("the guest is seen as %q", got)
	}
	if report := h.Diagnose(); report.Cause != "" || !strings.Contains(fmt.Sprint(report), "takes the traffic of the VPN on tun0") {
		t.Errorf("diagnose: %+v", report)
	}
	h.Do("down", "sql")
	phonetest.SameNetwork(t, "after down", before, h.Snapshot())
}
