package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestPowerCuts cuts the power three times. Many times, and those of an amd64 machine and of an
// encrypted disk, are among the tests of endurance.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	guesttest.CutPower(t, "arm64", 3)
}
