package endurance

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestImageSurvivesKills kills processes of the real image at random moments. Each time the machine
// starts again with one set of rules, and down leaves the phone's network as it was.
func TestImageSurvivesKills(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, `, "shutdown_timeout": 1`)
	before := h.Snapshot()
	h.Do("up", "sql")
	up := h.Snapshot()
	random := rand.New(rand.NewPCG(2, 2))
	for range times(t, 10) {
		h.KillRandomProcess(random, 1500*time.Millisecond)
	}
	h.StartedAgain("started again every time", up)
	h.Do("down", "sql")
	phonetest.SameNetwork(t, "after down", before, h.Snapshot())
}
