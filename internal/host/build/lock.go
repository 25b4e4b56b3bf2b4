package build

import (
	"context"
	"errors"

	"github.com/sovereign-sql/sov/stages/resolve"
)

// Lock takes what update names into the lock in its newest version. If update is empty, it only
// says what is newer; a lock that has no entry for the recipe is written then, or with check is
// reported as stale.
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
