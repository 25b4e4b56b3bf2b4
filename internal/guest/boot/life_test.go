//go:build linux

package boot

import (
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// server answers every request with the status in /run/web/status.
const server = `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open('/run/web/status').read()))
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8080), H).serve_forever()
`

// TestLifeOfServices checks steps with their own users, readiness and liveness checks by HTTP, a
// schedule, the size of a log, kernel settings, and that a service that has ended is never ready.
func TestLifeOfServices(t *testing.T) {
	check := guestspec.Ready{HTTP: "http://127.0.0.1:8080/health", Interval: guestspec.Duration(50 * time.Millisecond), Timeout: guestspec.Duration(5 * time.Second)}
	web := shell("web", "exec python3 -c '"+strings.ReplaceAll(server, "'", `"`)+"' 2>/dev/null")
	web.User = "nobody"
	web.Directories = []guestspec.Directory{{Path: "/run/web", Mode: "0777", User: "nobody"}}
	web.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", "echo prepared by $(id -un); echo 302 >/run/web/status"}, User: "postgres"}}
	web.PostReady = []guestspec.Step{{Command: []string{"/bin/sh", "-c", "echo ready for $(id -un)"}}}
	web.Ready, web.Alive = check, &guestspec.Alive{Ready: check, Failures: 2}
	once := shell("once", "sleep 0.2; exit 0")
	once.Ready.Command, once.Restart.Policy = []string{"/bin/true"}, guestspec.OnFailure
	flaky := shell("flaky", "echo no configuration; exit 1")
	flaky.Restart = guestspec.Restart{Backoff: guestspec.Duration(time.Second), MaxBackoff: guestspec.Duration(time.Second)}
	job := shell("job", "echo working; exit 4")
	job.Schedule, job.After = "1h", []string{"web"}
	nightly := shell("nightly", "true")
	nightly.Schedule = "30 3 29 2 *"
	chatty := shell("chatty", "for i in $(seq 1 80); do echo $(seq 1 400); done; echo over; exec sleep 1000")
	chatty.LogSize = 64 << 10
	b := newBox(t, web, once, flaky, job, nightly, chatty)
	b.spec.Sysctls = map[string]string{"net.ipv4.tcp_keepalive_time": "77", "net.ipv4.no_such_setting": "1"}
	v := b.boot(t)
	v.waitLine("out web: prepared by postgres")
	v.waitLine("out web: ready for nobody")
	ready := func(s guestapi.Service) bool { return s.State == guestapi.StateReady }
	v.waitService("web", "ready", ready)
	ran := v.waitService("job", "run", func(s guestapi.Service) bool { return s.Schedule != nil && s.Schedule.Result != "" })
	if next := ran.Schedule.Next.Sub(ran.Schedule.LastStart); ran.State != guestapi.StateScheduled || !ran.Schedule.Failed || ran.Schedule.Result != "/bin/sh: exit status 4" || next != time.Hour {
		t.Errorf("job: %+v, %+v", ran, ran.Schedule)
	}
	if s := v.service("nightly"); s.Schedule == nil || !s.Schedule.LastStart.IsZero() || s.Schedule.Next.Format("01-02 15:04") != "02-29 03:30" {
		t.Errorf("nightly: %+v", s)
	}
	// Two 503 statuses in a row restart the service.
	if out, err := v.run("/bin/sh", "-c", "echo 503 >/run/web/status"); err != nil {
		t.Fatal(out)
	}
	v.waitLine(`warn web: ended reason="its alive check failed 2 times in a row: GET http://127.0.0.1:8080/health: 503 Service Unavailable"`)
	v.waitService("web", "back", func(s guestapi.Service) bool { return ready(s) && s.Restarts == 1 })
	v.waitService("once", "failed", func(s guestapi.Service) bool {
		return s.State == guestapi.StateFailed && strings.Contains(s.Reason, "it has ended")
	})
	v.waitService("flaky", "in back-off", func(s guestapi.Service) bool { return s.Failures >= 2 })
	status := v.status()
	if log := v.text(); strings.Contains(log, "info flaky: ready") || strings.Contains(log, "info init: ready") || status.Ready {
		t.Error("a service that ends at once is, or makes the machine, ready")
	}
	if problems := strings.Join(status.Problems, "\n"); !strings.Contains(problems, "set net.ipv4.no_such_setting: this kernel has no such setting") {
		t.Errorf("problems: %q", problems)
	}
	v.waitLine("out chatty: over")
	for what, want := range map[string]string{
		"cat /proc/sys/net/ipv4/tcp_keepalive_time":                        "77",
		"find /data/log -name 'chatty*' -size +33k; ls /data/log/chatty.1": "/data/log/chatty.1",
	} {
		if out, err := v.run("/bin/sh", "-c", what); err != nil || out != want {
			t.Errorf("%s: %q (%v), want %q", what, out, err, want)
		}
	}
	v.shutDown()
}
