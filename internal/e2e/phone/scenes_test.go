package phone

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// Every system in every scene is among the tests of endurance.
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

// Neither the machine nor a hotspot takes the other's forwarding away, whether netd can be asked or not.
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
