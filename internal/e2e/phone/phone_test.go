package phone

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestPhone runs the machine on the phone in both routing modes, in one of them with a new data
// disk. The machine must reach the internet through each uplink, also when it changes during a
// download, answer SQL to the phone, and leave nothing.
func TestPhone(t *testing.T) {
	t.Parallel()
	for _, routing := range []string{"main-first", "scoped"} {
		t.Run(routing, func(t *testing.T) {
			h := phonetest.New(t, androidtest.Options{}, `, "vms": {"sql": {"routing": "`+routing+`"}}`)
			if routing == "scoped" { // the machine was never started
				if err := os.Remove(h.File(h.VM.Data())); err != nil {
					t.Fatal(err)
				}
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
			wantOff(h)
			switchDuringDownload(h)
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

// downloadPort is the port on which the internet's server sends an endless response.
const downloadPort = 81

// switchDuringDownload changes the uplink during a download of the guest. The guest's connection
// must end at once and the next one must work. The phone uses wlan0 again at the end.
func switchDuringDownload(h *phonetest.Handset) {
	h.T.Helper()
	var mu sync.Mutex
	first := map[string]time.Time{} // when a client's first byte was acknowledged, by its address
	h.Serve(downloadPort, func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		c.SetDeadline(time.Now().Add(sovtest.WaitLimit))
		if n, err := c.Read(make([]byte, 4096)); n == 0 || err != nil {
			return
		}
		mu.Lock()
		if first[host].IsZero() {
			first[host] = time.Now()
		}
		mu.Unlock()
		fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\n")
		block := make([]byte, 16<<10)
		for err := error(nil); err == nil; {
			_, err = c.Write(block)
		}
	})
	seen := func(address string) (time.Time, bool) {
		mu.Lock()
		defer mu.Unlock()
		return first[address], !first[address].IsZero()
	}
	h.GuestBackground(fmt.Sprintf("while :; do wget -q -O /dev/null -T 10 http://%s:%d/; done", androidtest.ServerIP, downloadPort))
	h.Eventually("downloading", func() bool { _, ok := seen(androidtest.WLANIP); return ok })
	h.SwitchUplink("rmnet0")
	switched := time.Now()
	var again time.Time
	h.Eventually("downloading over rmnet0", func() (ok bool) { again, ok = seen(androidtest.MobileIP); return ok })
	h.T.Logf("traffic flows over the new uplink %v after the switch", again.Sub(switched).Round(time.Millisecond))
	h.SwitchUplink("wlan0")
}
