package daemon

import (
	"context"
	"fmt"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Repair performs one of guestapi.Repairs in a running machine's guest.
func Repair(ctx context.Context, root phonepath.Root, name, what string) (*guestapi.Repair, error) {
	client, err := clientOf(root, name)
	if err != nil {
		return nil, err
	}
	done, err := client.Repair(ctx, what)
	if err != nil {
		return done, fmt.Errorf("repair %s: %w", name, err)
	}
	return done, nil
}
