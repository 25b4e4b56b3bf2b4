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

// The machine on the phone, in one of the modes from nothing: it reaches the internet by each
// uplink, also in the midst of a download, answers SQL to the phone, and leaves nothing behind.
func TestPhone(t *testing.T) {
	t.Parallel()
	for _, routing := range []string{"main-first", "scoped"} {
		t.Run(routing, func(t *testing.T) {
			h := phonetest.New(t, androidtest.Options{}, `, "vms": {"sql": {"routing": "`+routing+`"}}`)
			if routing == "scoped" { // nothing has started before
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

// downloadPort is where the internet's server sends without end.
const downloadPort = 81

// switchDuringDownload switches the uplink under a download of the guest's: its connection is told
// at once that it has ended, and the next one flows. The phone is on wlan0 again afterwards.
func switchDuringDownload(h *phonetest.Handset) {
	h.T.Helper()
	var mu sync.Mutex
	first := map[string]time.Time{} // by the client's address: when a byte of its was acknowledged
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
