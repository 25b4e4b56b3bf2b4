package guestinit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

func TestTailscaleService(t *testing.T) {
	root := below(t, alpine)
	if err := apply(t, root, parse(t, `
tailscale: {enabled: true, hostname: box, login_server: "https://control.example", tags: ["tag:sql", "tag:phone"]}
services: [{name: a, command: [/a], after: [tailscale]}]
`)); err != nil {
		t.Fatal(err)
	}
	c, err := guestspec.Load(treeFS(t, root))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[1]
	if s.Name != "tailscale" || s.User != "root" || *s.StartIf != (guestspec.StartIf{Secret: "tailscale", File: "/data/tailscale/tailscaled.state"}) ||
		s.Env["TS_DEBUG_FIREWALL_MODE"] != "nftables" || s.Env["TS_NO_LOGS_NO_SUPPORT"] != "true" {
		t.Errorf("got %+v", s)
	}
	want := []string{"/usr/sbin/tailscaled", "--state=/data/tailscale/tailscaled.state", "--statedir=/data/tailscale",
		"--socket=/run/tailscale/tailscaled.sock", "--tun=tailscale0", "--port=41641"}
	if diff := cmp.Diff(want, s.Command); diff != "" {
		t.Errorf("command (-want +got)\n%s", diff)
	}
	up := s.PostReady[0]
	want = []string{"/sbin/sov-init", "tailscale-up", "--socket=/run/tailscale/tailscaled.sock", "--hostname=box",
		"--login-server=https://control.example", "--advertise-tags=tag:sql,tag:phone", "--state=/data/tailscale/tailscaled.state"}
	if diff := cmp.Diff(want, up.Command); diff != "" || up.Secret != "tailscale" || !up.SecretOptional {
		t.Errorf("step %+v (-want +got)\n%s", up, diff)
	}
	prepare := s.Prepare[0]
	want = []string{"/sbin/sov-init", "tailscale-prepare", "--state=/data/tailscale/tailscaled.state"}
	if diff := cmp.Diff(want, prepare.Command); diff != "" || prepare.Secret != "tailscale" || !prepare.SecretOptional {
		t.Errorf("step %+v (-want +got)\n%s", prepare, diff)
	}
}

func TestEphemeralTailscaleKeepsNothing(t *testing.T) {
	s := TailscaleService(parse(t, "tailscale: {enabled: true, ephemeral: true}").Tailscale)
	if strings.Contains(strings.Join(s.Command, " "), "/data") || s.StartIf.File != "" || len(s.Prepare) != 0 || len(s.Directories) != 1 || s.Command[1] != "--state=mem:" {
		t.Errorf("got %+v", s)
	}
}

func TestFirewall(t *testing.T) {
	const tcp, udp, link, tailnet = guestspec.TCP, guestspec.UDP, guestspec.OnLink, guestspec.OnTailnet
	for _, tt := range []struct {
		name, recipe string
		want         []guestspec.Opening
	}{
		{"nothing", "", nil},
		{"PostgreSQL", "postgres: {enabled: true}\nnetwork: {publish: [5432]}",
			[]guestspec.Opening{{Protocol: tcp, Port: 5432, On: link, From: []string{"subnet"}, PerSecond: 3, Service: "postgres"}}},
		{"PostgreSQL for the tailnet", "postgres: {enabled: true, port: 6000, networks: [tailnet], connect_rate: 20}\ntailscale: {enabled: true}",
			[]guestspec.Opening{{Protocol: tcp, Port: 6000, On: tailnet, PerSecond: 20, Service: "postgres"}, {Protocol: udp, Port: 41641, On: link, Service: "tailscale"}}},
		{"all", "postgres: {enabled: true, connect_rate: 0, networks: [tap, tailnet, 10.0.0.0/8]}\ntailscale: {enabled: true}\nnetwork: {publish: [5432, 80]}",
			[]guestspec.Opening{{Protocol: tcp, Port: 5432, On: tailnet, Service: "postgres"}, {Protocol: tcp, Port: 5432, On: link, From: []string{"subnet", "10.0.0.0/8"}, Service: "postgres"},
				{Protocol: tcp, Port: 80, On: link}, {Protocol: tcp, Port: 80, On: tailnet}, {Protocol: udp, Port: 41641, On: link, Service: "tailscale"}}},
		{"a pooler", "postgres: {enabled: true, networks: [tailnet, peers], pooler: pgbouncer}\ntailscale: {enabled: true}\nnetwork: {publish: [5432]}",
			[]guestspec.Opening{{Protocol: tcp, Port: 5432, On: tailnet, PerSecond: 3, Service: "postgres"},
				{Protocol: tcp, Port: 5432, On: link, From: []string{"192.168.96.0/19", "10.213.0.0/19"}, PerSecond: 3, Service: "postgres"},
				{Protocol: tcp, Port: 6432, On: tailnet, PerSecond: 3, Service: "pgbouncer"},
				{Protocol: tcp, Port: 6432, On: link, From: []string{"192.168.96.0/19", "10.213.0.0/19"}, PerSecond: 3, Service: "pgbouncer"},
				{Protocol: udp, Port: 41641, On: link, Service: "tailscale"}}},
		{"a service's ports of both protocols", "services: [{name: dns, command: [/bin/dns]}]\nnetwork: {publish: [53, {port: 53, protocol: udp}]}",
			[]guestspec.Opening{{Protocol: tcp, Port: 53, On: link, Service: "dns"}, {Protocol: udp, Port: 53, On: link, Service: "dns"}}},
	} {
		if diff := cmp.Diff(tt.want, Firewall(parse(t, tt.recipe)).Open); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}
