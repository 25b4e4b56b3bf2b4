package phone

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// The machine on the phone, from nothing: it reaches the internet by each uplink, answers SQL to
// the phone, and leaves nothing behind.
func TestPhone(t *testing.T) {
	t.Parallel()
	for _, routing := range []string{"main-first", "scoped"} {
		t.Run(routing, func(t *testing.T) {
			h := phonetest.New(t, androidtest.Options{}, `, "vms": {"sql": {"routing": "`+routing+`"}}`)
			if err := os.Remove(h.File(h.VM.Data())); err != nil { // nothing has started before
				t.Fatal(err)
			}
			before := h.Snapshot()
			h.ServeAddress()
			start := time.Now()
			o := h.Do("up", "sql")
			t.Logf("up took %.1f s: %s%s", time.Since(start).Seconds(), o.Stderr, o.Stdout)
			if got := h.GuestShell(phonetest.FetchAddress); got != androidtest.WLANIP {
				t.Errorf("on wlan0, the guest reaches the internet as %q, want %s", got, androidtest.WLANIP)
			}
			h.Ask("create table journey (stop text)")
			for _, uplink := range []struct{ name, address string }{{"rmnet0", androidtest.MobileIP}, {"wlan0", androidtest.WLANIP}} {
				h.SwitchUplink(uplink.name)
				switched := time.Now()
				h.Eventually("on "+uplink.name, func() bool { return h.GuestShell(phonetest.FetchAddress) == uplink.address })
				t.Logf("%s after %v", uplink.name, time.Since(switched).Round(time.Millisecond))
				h.Ask("insert into journey values ('" + uplink.name + "')")
			}
			if again := h.Do("up", "sql"); !strings.Contains(again.Stdout, "ready") {
				t.Errorf("up again: %v", again)
			}
			if report := h.Diagnose(); report.Cause != "" {
				t.Errorf("diagnose: %+v", report)
			}
			h.Do("restart", "sql")
			if got := h.Ask("select stop from journey"); strings.Join(got, " ") != "rmnet0 wlan0" {
				t.Errorf("after a restart: %q", got)
			}
			h.Do("down", "sql")
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
			h.Do("down", "sql")
			if left := h.Shell("ls -A " + h.VM.Run()); strings.Contains(left, "sock") || strings.Contains(left, "token") || strings.Contains(left, "config") {
				t.Errorf("down left %s", left)
			}
		})
	}
}
