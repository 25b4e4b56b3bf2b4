package phone

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// backRule is the rule that routes packets for the guest by the table main.
var backRule = map[string]string{"main-first": "from all lookup main", "scoped": "to 192.168.100.0/24 lookup main"}

// TestReturnTrafficNeedsTheRule checks that responses to the guest are lost without the rule for
// main: no other table on Android has a route to its subnet.
func TestReturnTrafficNeedsTheRule(t *testing.T) {
	t.Parallel()
	for _, routing := range []string{"main-first", "scoped"} {
		t.Run(routing, func(t *testing.T) {
			h := phonetest.NewWith(t, sovtest.Variant(t, "arm64", "egress", "network: {egress: [phone]}"), androidtest.Options{},
				`, "vms": {"sql": {"routing": "`+routing+`"}}`)
			requests := make(chan string, 100)
			h.ServeUDP(7, func(from net.Addr) { requests <- from.String() })
			h.Do("up", "sql")
			var door net.Listener
			err := h.InNetwork(func() (err error) { door, err = net.Listen("tcp", "192.168.100.1:9"); return err })
			if err != nil {
				t.Fatal(err)
			}
			defer door.Close()
			go func() {
				for {
					conn, err := door.Accept()
					if err != nil {
						return
					}
					conn.Close()
				}
			}()
			// Without the rule, the phone cannot reach the guest either. The guest sends its
			// request from the background when it detects that.
			const gone = "while nc -w 5 192.168.100.1 9 </dev/null; do sleep 0.1; done"
			ask := func(file, when string) {
				h.GuestBackground(when + "; echo ping | nc -u -w 2 " + androidtest.ServerIP + " 7 >" + file + "; echo done >>" + file)
			}
			answer := func(file string) string {
				var text string
				h.Eventually("an answer in "+file, func() bool {
					text = h.GuestShell("cat " + file + " 2>/dev/null || true")
					return strings.Contains(text, "done")
				})
				return text
			}
			ask("/tmp/with", "true")
			if got := answer("/tmp/with"); !strings.Contains(got, androidtest.WLANIP) {
				t.Errorf("with the rule, the answer is %q", got)
			}
			for len(requests) > 0 {
				<-requests
			}
			resume := h.Suspend()
			ask("/tmp/without", gone)
			if routing == "main-first" { // keep the way out, as scoped mode's second rule does
				h.Shell("ip rule del pref 1 lookup main; ip rule add pref 1 iif vm_sql lookup main")
			} else {
				h.Shell("ip rule del pref 1")
			}
			select {
			case <-requests: // the request got out; its response is lost before the rule is restored
			case <-time.After(time.Minute):
				t.Fatal("without the rule back, the request does not even get out")
			}
			resume()
			h.Eventually("repaired", func() bool { return strings.Contains(h.Shell("ip rule show pref 1"), backRule[routing]) })
			if got := answer("/tmp/without"); strings.Contains(got, androidtest.WLANIP) {
				t.Errorf("without the rule, the guest got an answer: %q", got)
			}
			h.Do("down", "sql")
		})
	}
}

// TestUplinkGoesDown checks that the machine uses the next uplink when its uplink goes down.
func TestUplinkGoesDown(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) {
			h := phonetest.NewLight(t, routing, lightguest.Script{}, `{}`)
			h.ServeAddress()
			h.SwitchUplink("rmnet0")
			h.Do("up", "sql")
			if got := h.GoOut(); got != androidtest.MobileIP {
				t.Errorf("on rmnet0, the guest is seen as %q, want %s", got, androidtest.MobileIP)
			}
			h.UplinkDown("rmnet0")
			h.SwitchUplink("wlan0")
			h.Eventually("out by wlan0", func() bool { return h.GoOut() == androidtest.WLANIP })
			if s := h.Status(); !strings.HasPrefix(s.Network.Uplink, "wlan0") {
				t.Errorf("the status has the uplink %q", s.Network.Uplink)
			}
			h.Do("down", "sql")
		})
	}
}

// TestVPNBesideTheMachine checks that a VPN app's traffic stays on its VPN in scoped mode. In
// main-first mode it does not, because every packet of the phone uses main first, which contains
// the uplink's default route. docs/networking.md describes this.
func TestVPNBesideTheMachine(t *testing.T) {
	t.Parallel()
	for routing, want := range map[vmspec.Routing]string{vmspec.Scoped: androidtest.VPNIP, vmspec.MainFirst: androidtest.WLANIP} {
		t.Run(string(routing), func(t *testing.T) {
			h := phonetest.NewLight(t, routing, lightguest.Script{}, `{}`)
			h.ServeAddress()
			h.AddVPN()
			app := func() string {
				return strings.TrimSpace(h.Shell(fmt.Sprintf("timeout 60 setpriv --reuid %d --clear-groups bash -c 'exec 3<>/dev/tcp/%s/80; echo >&3; tail -n 1 <&3'",
					androidtest.VPNUID, androidtest.ServerIP)))
			}
			if got := app(); got != androidtest.VPNIP {
				t.Fatalf("before, the app is seen as %s, want %s", got, androidtest.VPNIP)
			}
			h.Do("up", "sql")
			if got := app(); got != want {
				t.Errorf("while the machine runs, the app is seen as %s, want %s", got, want)
			}
			if got := h.GoOut(); got != androidtest.WLANIP {
				t.Errorf("the guest is seen as %s, want %s", got, androidtest.WLANIP)
			}
			h.Do("down", "sql")
			if got := app(); got != androidtest.VPNIP {
				t.Errorf("afterwards, the app is seen as %s, want %s", got, androidtest.VPNIP)
			}
		})
	}
}
