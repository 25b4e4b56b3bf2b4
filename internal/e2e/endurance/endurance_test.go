package endurance

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// times is a count, scaled.
func times(t *testing.T, n int) int {
	t.Helper()
	return repeat.Times(t, 1, n)
}

func TestPowerCuts(t *testing.T) {
	t.Parallel()
	t.Run("arm64", func(t *testing.T) { guesttest.CutPower(t, "arm64", times(t, 50)) })
	t.Run("amd64", func(t *testing.T) { guesttest.CutPower(t, "amd64", times(t, 10)) })
}

// TestLargeDataDisksGrow enlarges large data disks while their guests write to them. A scale below one takes the first.
func TestLargeDataDisksGrow(t *testing.T) {
	t.Parallel()
	growths := guesttest.LargeGrowths()
	guesttest.GrowUnderWriter(t, growths[:min(len(growths), times(t, len(growths)))])
}

// TestEveryPairKilled kills two processes of the guest at once. A scale below one takes the first of the pairs.
func TestEveryPairKilled(t *testing.T) {
	t.Parallel()
	pairs := guesttest.EachPair()
	guesttest.KillProcesses(t, pairs[:min(len(pairs), times(t, len(pairs)))])
}

func TestKilledBuilds(t *testing.T) { sovtest.KillBuilds(t, times(t, 50)) }

func TestKilledInBetween(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) { phonetest.KillInBetween(t, routing, times(t, 100)) })
	}
}

func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) { phonetest.KillAndStartAgain(t, routing, times(t, 100)) })
	}
}

func TestPushCut(t *testing.T) {
	t.Parallel()
	phonetest.CutPushes(t, times(t, 200))
}
