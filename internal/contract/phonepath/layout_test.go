package phonepath

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		_, err := Default.VM(name)
		return err
	})
}
