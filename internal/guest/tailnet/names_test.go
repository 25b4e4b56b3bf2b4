package tailnet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

func TestNodes(t *testing.T) {
	const peers = `"Peer":{"a":{"DNSName":"phone.tail.example.","TailscaleIPs":["fd7a:115c:a1e0::2","100.64.0.2"]},` +
		`"b":{"DNSName":"evil\\n1.2.3.4 bank.example.tail.","TailscaleIPs":["100.64.0.3"]},"c":{"DNSName":"","TailscaleIPs":["100.64.0.4"]}}}`
	four, six := netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("fd7a:115c:a1e0::2")
	for _, tt := range []struct {
		name, status string
		want         []configdisk.Host
	}{
		{"with names", `{"CurrentTailnet":{"MagicDNSEnabled":true},` + peers,
			[]configdisk.Host{{Name: "phone", Address: four}, {Name: "phone", Address: six}, {Name: "phone.tail.example", Address: four}, {Name: "phone.tail.example", Address: six}}},
		{"without names", `{"CurrentTailnet":{"MagicDNSEnabled":false},` + peers, nil},
		{"not joined", `{"CurrentTailnet":null,"Peer":null}`, nil},
	} {
		got, err := (&daemon{status: tt.status}).start(t).Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}
