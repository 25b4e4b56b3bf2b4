package endurance

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// times returns n, scaled by $SOV_ENDURANCE.
func times(t *testing.T, n int) int {
	t.Helper()
	return repeat.Times(t, 1, n)
}

func TestPowerCuts(t *testing.T) {
	t.Parallel()
	t.Run("arm64", func(t *testing.T) { guesttest.CutPower(t, "arm64", times(t, 50)) })
	t.Run("amd64", func(t *testing.T) { guesttest.CutPower(t, "amd64", times(t, 10)) })
	t.Run("encrypted", func(t *testing.T) { guesttest.CutEncrypted(t, "arm64", times(t, 50)) })
}

// TestDiskImages boots disk images twice, one after another, from each bus in docs/disk.md that
// TestDiskImage does not test. With a scale below one, it boots only the first of them.
func TestDiskImages(t *testing.T) {
	t.Parallel()
	machines := []struct {
		arch string
		bus  guesttest.Bus
	}{
		{"arm64", guesttest.VirtioBlock}, {"arm64", guesttest.VirtioSCSI}, {"arm64", guesttest.NVMe},
		{"amd64", guesttest.VirtioSCSI}, {"amd64", guesttest.AHCI}, {"amd64", guesttest.NVMe},
	}
	for _, m := range machines[:min(len(machines), times(t, len(machines)))] {
		t.Run(m.arch+" "+string(m.bus), func(t *testing.T) {
			guesttest.DiskImage(t, sovtest.Artifact(t, m.arch), m.arch, m.bus, true)
		})
	}
}

// TestLargeDataDisksGrow enlarges large data disks while their guests write to them. With a scale
// below one, it enlarges only the first of them.
func TestLargeDataDisksGrow(t *testing.T) {
	t.Parallel()
	growths := guesttest.LargeGrowths()
	guesttest.GrowUnderWriter(t, growths[:min(len(growths), times(t, len(growths)))])
}

// TestEveryPairKilled kills two processes of the guest at once. With a scale below one, it kills
// only the first pairs.
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

// TestScenes runs a machine through every scene of every system. With a scale below one, it runs a
// random part of them.
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

// TestCover runs a light machine through its life cycle on every phone of the cover. With a scale
// below one, it runs only the first phones.
func TestCover(t *testing.T) {
	t.Parallel()
	makes := phonetest.Cover()
	for _, m := range makes[:min(len(makes), times(t, len(makes)))] {
		t.Run(m.String(), func(t *testing.T) { t.Parallel(); m.Live(t) })
	}
}

// TestReleases starts the real guest on each release of Android, and runs a query on it.
func TestReleases(t *testing.T) {
	t.Parallel()
	for _, r := range crosvmcli.Releases[:min(len(crosvmcli.Releases), times(t, len(crosvmcli.Releases)))] {
		t.Run(string(r), func(t *testing.T) {
			h := phonetest.New(t, androidtest.Options{Build: androidtest.DefaultBuild(r)}, "")
			h.Do("up", "sql")
			if got := h.Ask("select 41 + 1"); !slices.Equal(got, []string{"42"}) {
				t.Errorf("Android %s: %q", r, got)
			}
			h.Do("down", "sql")
		})
	}
}
