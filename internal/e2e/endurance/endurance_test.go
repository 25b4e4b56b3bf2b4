package endurance

import (
	"math/rand/v2"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
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
	t.Run("arm64", func(t *testing.T) { guesttest.CutPower(t, "arm64", times(t, 40)) })
	t.Run("amd64", func(t *testing.T) { guesttest.CutPower(t, "amd64", times(t, 10)) })
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

// TestScenes has a machine live through every scene of every system. A scale below one takes some of them, others each time.
func TestScenes(t *testing.T) {
	t.Parallel()
	rows := phonetest.Rows(vmspec.Auto, vmspec.MainFirst)
	random := rand.New(rand.NewPCG(repeat.Seed(t), 0))
	random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	for _, r := range rows[:min(len(rows), times(t, len(rows)))] {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			phonetest.LiveThrough(t, r)
		})
	}
}

func TestPushCut(t *testing.T) {
	t.Parallel()
	phonetest.CutPushes(t, times(t, 200))
}
