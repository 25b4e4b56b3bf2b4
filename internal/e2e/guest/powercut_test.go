package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestPowerCuts cuts the power twice, and once more while the machine starts. Many times, and those
// of an amd64 machine and of an encrypted disk, are among the tests of endurance.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	guesttest.CutPower(t, "arm64", 2)
}
