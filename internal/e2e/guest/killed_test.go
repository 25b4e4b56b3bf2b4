package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestEveryProcessKilled kills every process of the guest in turn. Pairs of them are among the
// tests of endurance.
func TestEveryProcessKilled(t *testing.T) {
	t.Parallel()
	guesttest.KillProcesses(t, guesttest.EachVictim())
}
