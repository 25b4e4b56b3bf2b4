//go:build linux

package boot

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestTailscaleWithoutKeyIsOff verifies that without a key everything but Tailscale works,
// including services that start after it.
func TestTailscaleWithoutKeyIsOff(t *testing.T) {
	tailscale := sleeper("tailscale")
	tailscale.StartIf = &guestspec.StartIf{Secret: "tailscale", File: "/data/tailscale/tailscaled.state"}
	tailscale.Ready = guestspec.Ready{Unix: "/run/tailscale.sock"}
	later := sleeper("later")
	later.After = []string{"tailscale"}
	b := newBox(t, tailscale, later)
	v := b.boot(t)
	v.waitReady()
	s := v.status()
	if s.Tailnet == nil || s.Tailnet.State != guestapi.TailnetOff || !strings.Contains(s.Tailnet.Fault, "set the secret tailscale") {
		t.Errorf("tailnet: %+v", s.Tailnet)
	}
	if s := v.service("tailscale"); s.State != guestapi.StateOff || s.PID != 0 ||
		s.Reason != "there is no secret tailscale on the config disk and no /data/tailscale/tailscaled.state" {
		t.Errorf("tailscale: %+v", s)
	}
	if s := v.service("later"); s.State != guestapi.StateReady {
		t.Errorf("later: %+v", s)
	}
	if out, err := v.run("/bin/sh", "-c", "mkdir /data/tailscale && echo {} > /data/tailscale/tailscaled.state"); err != nil {
		t.Fatal(out, err)
	}
	v.shutDown()
	// With a state Tailscale starts. The status reports a daemon that does not answer, and is not
	// delayed by it.
	v = b.boot(t)
	v.waitService("tailscale", "starting", func(s guestapi.Service) bool { return s.PID != 0 })
	if s := v.status(); s.Ready || s.Tailnet.State != "NoState" || !strings.Contains(s.Tailnet.Fault, "tailscaled is starting") {
		t.Errorf("tailnet: %+v", s.Tailnet)
	}
	v.shutDown()
}
