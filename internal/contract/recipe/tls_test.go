package recipe

import (
	"strings"
	"testing"
)

func TestTLS(t *testing.T) {
	const head = "name: a\nbase: {image: alpine}\nnetwork: {tap: vm_a}\nsecrets: [{name: crt}, {name: key}]\npostgres:\n  enabled: true\n"
	for _, tt := range []struct {
		postgres string
		want     TLS
		fault    string
	}{
		{"", TLS{From: TLSOwn}, ""},
		{"  tls: own\n", TLS{From: TLSOwn}, ""},
		{"  tls: off\n", TLS{From: TLSOff}, ""},
		{"  tls: {certificate: crt, key: key}\n", TLS{Certificate: "crt", Key: "key"}, ""},
		{"  settings: {ssl: on, ssl_cert_file: /etc/a}\n", TLS{From: TLSOff}, ""}, // a recipe from before postgres.tls
		{"  settings: {ssl: off}\n", TLS{From: TLSOff}, ""},
		{"  tls: off\n  settings: {ssl: on}\n", TLS{From: TLSOff}, ""},
		{"  tls: own\n  settings: {ssl: off}\n", TLS{}, "postgres.settings.ssl: is what postgres.tls decides"},
		{"  tls: tailscale\ntailscale: {enabled: true}\n", TLS{From: TLSTailscale}, ""},
		{"  tls: tailscale\n", TLS{}, "postgres.tls: tailscale needs a node: set tailscale.enabled"},
		{"  tls: tailscale\ntailscale: {enabled: true, ephemeral: true}\n", TLS{}, "tailscale needs a node that stays"},
		{"  tls: tailscale\n  settings: {ssl: on}\ntailscale: {enabled: true}\n", TLS{}, "is what postgres.tls decides"},
		{"  tls: letsencrypt\n", TLS{}, `"letsencrypt" must be own, tailscale, off, or a mapping`},
		{"  tls: {certificate: crt}\n", TLS{}, "lacks its certificate or its key"},
		{"  tls: {certificate: crt, key: other}\n", TLS{}, `there is no secret "other"`},
		{"  tls: {from: own, certificate: crt, key: key}\n", TLS{}, "gives both"},
	} {
		r, err := Parse("a.yaml", []byte(head+tt.postgres))
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("%q: %v, want %q", tt.postgres, err, tt.fault)
			}
			continue
		}
		if err != nil || r.Postgres.TLS != tt.want {
			t.Errorf("%q: %v, want %+v", tt.postgres, err, tt.want)
		}
	}
	_, err := Parse("a.yaml", []byte("name: a\nbase: {image: alpine}\nnetwork: {tap: vm_a}\nservices: [{name: x, command: [/x], directories: [{path: /data/.sov-tls/x}, {path: /data/.sov-restore}]}]\n"))
	if err == nil || strings.Count(err.Error(), "is the guest's own") != 2 {
		t.Errorf("a service in the guest's own directories: %v", err)
	}
}
