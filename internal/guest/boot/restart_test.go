//go:build linux

package boot

import (
	"net/http"
	"strings"
	"testing"
)

// TestLogsSurviveARestart verifies that services' logs are kept across a restart, and that only
// logs of existing services can be read.
func TestLogsSurviveARestart(t *testing.T) {
	b := newBox(t, sleeper("a"))
	v := b.boot(t)
	v.waitLine("out a: hello")
	v.waitReady()
	v.shutDown()
	v = b.boot(t)
	v.waitLine("out a: hello")
	v.waitReady()
	for _, tt := range []struct {
		path string
		code int
		want []string
	}{
		{"/logs?service=a", 200, []string{"out a: hello", "out a: bye", "info a: stopped", "info a: ready"}},
		{"/logs?service=init", 200, []string{"info init: starting", "shutting down reason=endpoint", "data disk mounted"}},
		{"/logs", 200, []string{"out a: hello", "info init: starting"}},
		{"/logs?service=b", 404, nil},
		{"/metrics", 200, []string{`sov_service_ready{service="a",state="ready"} 1`, "sov_log_lines_lost_total 0"}},
	} {
		code, body, err := v.request(http.MethodGet, tt.path, token, nil)
		if err != nil || code != tt.code {
			t.Errorf("%s: %d %v, want %d", tt.path, code, err, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s lacks %q:\n%s", tt.path, want, body)
			}
		}
	}
	_, body, err := v.request(http.MethodGet, "/logs?service=a&lines=10000", token, nil)
	if n := strings.Count(string(body), "out a: hello"); err != nil || n != 2 {
		t.Errorf("%d starts of the service are in its log, %v", n, err)
	}
	out, err := v.run("/bin/sh", "-c", "stat -c '%a %U' /data/log /data/log/a")
	if err != nil || out != "700 root\n600 root" {
		t.Errorf("the log's folder and file: %q, %v", out, err)
	}
	v.shutDown()
	b.wantCleanDisk(t)
}
