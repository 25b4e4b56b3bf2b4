package tailnet

import (
	"strings"
	"testing"
	"time"
)

func TestDescribeTailnet(t *testing.T) {
	expiry := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	self := &selfStatus{HostName: "box", DNSName: "box-1.tail.example.", Online: true, KeyExpiry: &expiry}
	for _, tt := range []struct {
		name   string
		status daemonStatus
		hasKey bool
		fault  string // a part of it; empty: none
	}{
		{"running", daemonStatus{State: "Running", HaveNodeKey: true, Self: self}, true, ""},
		{"starting", daemonStatus{State: "Starting", HaveNodeKey: true}, true, ""},
		{"without an answer", daemonStatus{State: "NoState", HaveNodeKey: true}, true, "waits for the control server"},
		{"offline", daemonStatus{State: "Running", Self: &selfStatus{}, Health: []string{"no route"}}, true, "not heard of; tailscaled says: no route"},
		{"expired", daemonStatus{State: "NeedsLogin", HaveNodeKey: true}, true, "renew it"},
		{"keyless", daemonStatus{State: "NeedsLogin"}, false, "no auth key"},
		{"refused", daemonStatus{State: "NeedsLogin", Health: []string{"invalid key"}}, true, "invalid key"},
		{"unapproved", daemonStatus{State: "NeedsMachineAuth"}, true, "approve"},
		{"stopped", daemonStatus{State: "Stopped"}, true, "tailscale up"},
	} {
		got := describe(&tt.status, tt.hasKey)
		if got.State != tt.status.State || (got.Fault == "") != (tt.fault == "") || !strings.Contains(got.Fault, tt.fault) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	got := describe(&daemonStatus{State: "Running", Self: self}, true)
	if got.Hostname != "box-1" || !got.KeyExpiry.Equal(expiry) || !got.Online {
		t.Errorf("got %+v", got)
	}
}
