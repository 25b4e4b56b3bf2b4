package guest

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
)

func TestPowerCuts(t *testing.T) {
	t.Parallel()
	t.Run("arm64", func(t *testing.T) { guesttest.CutPower(t, "arm64", 3) })
	t.Run("amd64", func(t *testing.T) { guesttest.CutPower(t, "amd64", 1) })
}
