//go:build linux

package guest

import (
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// TestTailscaleWithoutKeyIsOff wants everything else to work, what comes after Tailscale included.
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
	// With a state it starts; that no daemon answers is told and holds up nobody who asks.
	v = b.boot(t)
	v.waitService("tailscale", "starting", func(s guestapi.Service) bool { return s.PID != 0 })
	if s := v.status(); s.Ready || s.Tailnet.State != "NoState" || !strings.Contains(s.Tailnet.Fault, "tailscaled is starting") {
		t.Errorf("tailnet: %+v", s.Tailnet)
	}
	v.shutDown()
}

func TestDescribeTailnet(t *testing.T) {
	expiry := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	self := &tailnet.Self{HostName: "box", DNSName: "box-1.tail.example.", Online: true, KeyExpiry: &expiry}
	for _, tt := range []struct {
		name   string
		status tailnet.Status
		hasKey bool
		fault  string // a part of it; empty: none
	}{
		{"running", tailnet.Status{State: "Running", HaveNodeKey: true, Self: self}, true, ""},
		{"starting", tailnet.Status{State: "Starting", HaveNodeKey: true}, true, ""},
		{"without an answer", tailnet.Status{State: "NoState", HaveNodeKey: true}, true, "waits for the control server"},
		{"offline", tailnet.Status{State: "Running", Self: &tailnet.Self{}, Health: []string{"no route"}}, true, "not heard of; tailscaled says: no route"},
		{"expired", tailnet.Status{State: "NeedsLogin", HaveNodeKey: true}, true, "renew it"},
		{"keyless", tailnet.Status{State: "NeedsLogin"}, false, "no auth key"},
		{"refused", tailnet.Status{State: "NeedsLogin", Health: []string{"invalid key"}}, true, "invalid key"},
		{"unapproved", tailnet.Status{State: "NeedsMachineAuth"}, true, "approve"},
		{"stopped", tailnet.Status{State: "Stopped"}, true, "tailscale up"},
	} {
		got := describeTailnet(&tt.status, tt.hasKey)
		if got.State != tt.status.State || (got.Fault == "") != (tt.fault == "") || !strings.Contains(got.Fault, tt.fault) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	got := describeTailnet(&tailnet.Status{State: "Running", Self: self}, true)
	if got.Hostname != "box-1" || !got.KeyExpiry.Equal(expiry) || !got.Online {
		t.Errorf("got %+v", got)
	}
}
