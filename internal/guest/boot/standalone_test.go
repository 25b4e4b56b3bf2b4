//go:build linux

package boot

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestPasswordsOnce verifies that passwords are generated at the first start, and shown once after
// they were set, never again. A power cut before that must not leave a role without a password.
func TestPasswordsOnce(t *testing.T) {
	dir := t.TempDir()
	var shown strings.Builder
	start := func(given map[string]string) *standalone {
		m := &machine{}
		m.config.Secrets, m.spec.Data.Path = given, dir
		m.spec.Services = []guestspec.Service{
			{Name: guestspec.ServicePostgres, PostReady: []guestspec.Step{{Secret: "postgres"}, {}, {Secret: "role-app"}}},
			{Name: guestspec.ServiceTailscale, PostReady: []guestspec.Step{{Secret: "tailscale"}}},
		}
		s := m.withPasswords()
		s.show = func(text string) { shown.WriteString(text) }
		s.mounted()
		return s
	}
	first := start(nil).config.Secrets["postgres"]
	s := start(map[string]string{"role-app": "given"}) // the first start was interrupted
	again := s.config.Secrets["postgres"]
	if len(again) < 26 || again == first || s.config.Secrets["role-app"] != "given" || len(s.config.Secrets) != 2 {
		t.Errorf("secrets of the first start: %q", s.config.Secrets)
	}
	s.ready()
	if text := shown.String(); !strings.Contains(text, "\npostgres: "+again+"\n") || strings.Contains(text, "given") {
		t.Errorf("shown: %q", text)
	}
	shown.Reset()
	s = start(map[string]string{"role-app": "given"})
	s.ready()
	if len(s.config.Secrets) != 1 || shown.Len() > 0 {
		t.Errorf("the second start has the secrets %q, and shows %q", s.config.Secrets, shown.String())
	}
}
