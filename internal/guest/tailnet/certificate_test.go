package tailnet

import (
	"strings"
	"testing"
)

func TestCertificateName(t *testing.T) {
	const self = `"Self":{"HostName":"box","DNSName":"box.tail.example."}`
	for name, tt := range map[string]struct{ status, want, fault string }{
		"with certificates": {`{"BackendState":"Running","CertDomains":["box.tail.example"],` + self + `}`, "box.tail.example", ""},
		"without":           {`{"BackendState":"Running",` + self + `}`, "", "enable HTTPS certificates"},
		"of another name":   {`{"BackendState":"Running","CertDomains":["box-1.tail.example"],` + self + `}`, "", "enable HTTPS certificates"},
		"logged out":        {`{"BackendState":"NeedsLogin","CertDomains":["box.tail.example"],` + self + `}`, "", "tailscaled is NeedsLogin"},
		"not named yet":     {`{"BackendState":"Running","Self":{"HostName":"box"}}`, "", "not on its tailnet"},
	} {
		got, err := (&daemon{status: tt.status}).start(t).CertificateName(t.Context())
		if got != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
