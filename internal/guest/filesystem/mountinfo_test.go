//go:build linux

package filesystem

import "testing"

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{"/data": "/data", `/a\040b\134c`: `/a b\c`, `/a\04`: `/a\04`, `/a\999`: `/a\999`} {
		if got := unescapeMount(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
