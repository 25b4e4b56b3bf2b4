//go:build linux

package journal

import "testing"

func TestRedact(t *testing.T) {
	secrets := map[string]string{"tailscale": "tskey-auth/canary\n", "short": "is", "lines": "the first of the lines\nand another"}
	for in, want := range map[string]string{
		"this key tskey-auth/canary is bad":                  "this key [secret tailscale] is bad",
		"not the first of the lines":                         "not [secret lines]",
		"https://x.example/register?key=tskey-auth%2Fcanary": "https://x.example/register?key=[secret tailscale]",
	} {
		if got := Redact(secrets, in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
