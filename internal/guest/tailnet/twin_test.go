package tailnet

import (
	"strings"
	"testing"
)

// TestTwin feeds the keys that the control server reports during a node's life.
func TestTwin(t *testing.T) {
	const line = "2026/11/27 10:00:00 magicsock: disco key = d:"
	a, b, c := strings.Repeat("a", 16), strings.Repeat("b", 16), strings.Repeat("c", 16)
	for name, tt := range map[string]struct {
		seen  string // in this order: a is this tailscaled's key
		found bool
	}{
		"alone":         {"aaa", false},
		"after a start": {"bbaa", false},
		"the control server does not answer with news": {"bbb", false},
		"a twin is started":                            {"aab", true},
		"and this one speaks again":                    {"aba", true},
		"a twin is started, after a start":             {"cab", true},
		"a twin runs at the start, and speaks again":   {"bab", true},
		"another one was there at the start":           {"cb", true},
	} {
		twin := new(Twin)
		twin.Output("something else")
		for range 2 { // the second tailscaled has no state
			twin.see(c) // its key is not known yet
			twin.Output(line + a)
			for _, key := range tt.seen {
				twin.see(strings.Repeat(string(key), 16))
			}
			if got := twin.Warning(); (got != "") != tt.found {
				t.Errorf("%s: %q", name, got)
			}
			twin.Output(line + b)
			if twin.Warning() != "" {
				t.Errorf("%s: it is told of a tailscaled that was started later", name)
			}
		}
	}
	// As tailscaled reports it.
	twin := new(Twin)
	twin.Output(line + a)
	d := &daemon{status: `{"BackendState":"Running","Self":{"TailscaleIPs":["100.64.0.1"]}}`}
	client := d.start(t)
	for _, key := range []string{a, b} {
		d.whois = `{"Node":{"DiscoKey":"discokey:` + key + strings.Repeat("0", 48) + `"}}`
		if err := twin.Look(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(twin.Warning(), "sov repair NAME --tailnet new") {
		t.Errorf("it warns %q", twin.Warning())
	}
	d.status = `{"BackendState":"NeedsLogin"}`
	if err := twin.Look(t.Context(), client); err != nil {
		t.Error(err)
	}
}
