package endurance

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// The real image, killed again and again at whatever moment: it comes up again, there is one set of
// rules however often it is started, and down leaves the phone as it was.
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
