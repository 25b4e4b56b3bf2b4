package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestPowerCuts cuts the power twice while the machine runs and once while it starts. The endurance
// tests repeat this many times, also with amd64 and an encrypted disk.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	guesttest.CutPower(t, "arm64", 2)
}
