package build

import (
	"context"
	"errors"

	"github.com/sovereign-sql/sov/stages/resolve"
)

// Lock updates what update names to its newest version in the lock. If update is empty, it only
// reports newer versions; if the lock has no entry for the recipe, it adds one, or with check
// reports the lock as stale.
func Lock(ctx context.Context, o resolve.Options, update []string, check bool) (*resolve.Report, error) {
	if len(update) > 0 {
		return resolve.Update(ctx, o, update)
	}
	report, err := resolve.Newest(ctx, o)
	switch {
	case !errors.Is(err, resolve.ErrNoEntry):
		return report, err
	case check:
		return &resolve.Report{Stale: err}, nil
	}
	return resolve.Update(ctx, o, []string{resolve.UpdateAll})
}
