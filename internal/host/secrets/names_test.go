package secrets

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestNames(t *testing.T) {
	s := store(t, Keys{})
	nametest.Run(t, func(name string) error {
		_, err := s.List(name)
		return err
	})
}
