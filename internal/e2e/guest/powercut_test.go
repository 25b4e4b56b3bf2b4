package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

// TestPowerCuts cuts the power three times. Many times, and those of an amd64 machine, are among the tests of endurance.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	guesttest.CutPower(t, "arm64", 3)
}

// TestPowerCutsEncrypted cuts the power of a machine with an encrypted data disk. Many times are among the tests of endurance.
func TestPowerCutsEncrypted(t *testing.T) {
	t.Parallel()
	guesttest.CutEncrypted(t, "arm64", 2)
}
