package phone

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// Three phones of the cover, far from each other; all of them are among the tests of endurance.
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
