package phonereport

import "testing"

func TestRedact(t *testing.T) {
	r := new(redactor)
	for text, want := range map[string]string{
		"inet 10.1.2.3/24 brd 10.1.2.255 via 10.1.2.3": "inet 198.18.0.1/24 brd 198.18.0.2 via 198.18.0.1",
		"0.0.0.0 127.0.0.1 255.255.255.0 224.0.0.251":  "0.0.0.0 127.0.0.1 255.255.255.0 224.0.0.251",
	} {
		r.four, r.seen = 0, nil
		if got := r.redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"link/ether a4:5e:60:c1:02:03 brd ff:ff":                  "link/ether 02:00:00:00:00:01 brd ff:ff",
		"2a02:1234:5678::9/64 via fe80::a65e:60ff:fec1:203 dev x": "2001:db8::1/64 via fe80::2 dev x",
		"default from 2a02:1234:5678:: unreachable ::1 fe80::/64": "default from 2001:db8::1 unreachable ::1 fe80::/64",
		"10000: from all fwmark 0xc0000/0xd0000 lookup 99":        "10000: from all fwmark 0xc0000/0xd0000 lookup 99",
		"[12:34] a:e8 14:11000:99":                                "[12:34] a:e8 14:11000:99",
	} {
		if got := new(redactor).redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
