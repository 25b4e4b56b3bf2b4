package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestEveryProcessKilled kills every process of the guest in turn. The endurance tests kill pairs.
func TestEveryProcessKilled(t *testing.T) {
	t.Parallel()
	guesttest.KillProcesses(t, guesttest.EachVictim())
}
