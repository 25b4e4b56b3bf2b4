package stages

import (
	"errors"
	"testing"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// TestEndlessFiles reads a recipe and a lock from files without an end.
func TestEndlessFiles(t *testing.T) {
	costtest.Budget{Base: 8 << 20}.Run(t, 0, func() {
		if _, _, err := LoadRecipe("/dev/zero", recipe.Variant{}); !errors.Is(err, bound.ErrTooLarge) {
			t.Errorf("recipe: %v", err)
		}
	})
	costtest.Budget{Base: 512 << 20}.Run(t, 0, func() {
		if _, err := lock.Load("/dev/zero"); !errors.Is(err, bound.ErrTooLarge) {
			t.Errorf("lock: %v", err)
		}
	})
}
