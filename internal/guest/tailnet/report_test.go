package tailnet

import (
	"strings"
	"testing"
	"time"
)

func TestDescribeTailnet(t *testing.T) {
	expiry := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	self := &Self{HostName: "box", DNSName: "box-1.tail.example.", Online: true, KeyExpiry: &expiry}
	for _, tt := range []struct {
		name   string
		status Status
		hasKey bool
		fault  string // a part of it; empty: none
	}{
		{"running", Status{State: "Running", HaveNodeKey: true, Self: self}, true, ""},
		{"starting", Status{State: "Starting", HaveNodeKey: true}, true, ""},
		{"without an answer", Status{State: "NoState", HaveNodeKey: true}, true, "waits for the control server"},
		{"offline", Status{State: "Running", Self: &Self{}, Health: []string{"no route"}}, true, "not heard of; tailscaled says: no route"},
		{"expired", Status{State: "NeedsLogin", HaveNodeKey: true}, true, "renew it"},
		{"keyless", Status{State: "NeedsLogin"}, false, "no auth key"},
		{"refused", Status{State: "NeedsLogin", Health: []string{"invalid key"}}, true, "invalid key"},
		{"unapproved", Status{State: "NeedsMachineAuth"}, true, "approve"},
		{"stopped", Status{State: "Stopped"}, true, "tailscale up"},
	} {
		got := describe(&tt.status, tt.hasKey)
		if got.State != tt.status.State || (got.Fault == "") != (tt.fault == "") || !strings.Contains(got.Fault, tt.fault) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	got := describe(&Status{State: "Running", Self: self}, true)
	if got.Hostname != "box-1" || !got.KeyExpiry.Equal(expiry) || !got.Online {
		t.Errorf("got %+v", got)
	}
}
