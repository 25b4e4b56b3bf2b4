package phone

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestCover runs three phones of the cover that differ widely. The endurance tests run all of them.
func TestCover(t *testing.T) {
	t.Parallel()
	makes := phonetest.Cover()
	for _, m := range []phonetest.Make{makes[11], makes[46], makes[82]} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			m.Live(t)
		})
	}
}
