package install

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/health"
)

func TestBootVerb(t *testing.T) {
	for _, c := range []struct {
		alive       bool
		slot        string
		onlyRestart bool
		want        string
	}{
		{alive: false, want: "up"},
		{alive: false, onlyRestart: true, want: ""},
		{alive: true, slot: "a", want: "restart"},
		{alive: true, slot: "a", onlyRestart: true, want: "restart"},
		{alive: true, slot: "b", want: "up"},
		{alive: true, slot: "b", onlyRestart: true, want: "up"},
	} {
		now := &health.Machine{CrosvmAlive: c.alive}
		now.Slot = c.slot
		if got := BootVerb(now, "b", c.onlyRestart); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
