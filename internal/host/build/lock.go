package build

import (
	"context"
	"errors"

	"github.com/sovereign-sql/sov/stages"
)

// Lock takes what update names into the lock in its newest version. If update is empty, it only
// says what is newer; a lock that has no entry for the recipe is written then, or with check is
// reported as stale.
func Lock(ctx context.Context, o stages.Options, update []string, check bool) (*stages.LockReport, error) {
	if len(update) > 0 {
		return stages.UpdateLock(ctx, o, update)
	}
	report, err := stages.NewestLock(ctx, o)
	switch {
	case !errors.Is(err, stages.ErrNoEntry):
		return report, err
	case check:
		return &stages.LockReport{Stale: err}, nil
	}
	return stages.UpdateLock(ctx, o, []string{stages.UpdateAll})
}
