package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Backup writes the databases of a machine that runs to w, as a stream of package backup.
func Backup(ctx context.Context, root phonepath.Root, name string, w io.Writer) error {
	client, err := clientOf(root, name)
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return client.Backup(ctx, w)
}

// Restore makes the databases of a machine that runs what they are in a stream, and reports the guest's events.
func Restore(ctx context.Context, root phonepath.Root, name string, r io.Reader, event func(backup.Event)) error {
	client, err := clientOf(root, name)
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	return client.Restore(ctx, r, event)
}

// clientOf returns a client of the guest of a machine that runs.
func clientOf(root phonepath.Root, name string) (*guestapi.Client, error) {
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	state, err := readState(vm)
	if err != nil {
		return nil, err
	}
	token := readToken(vm)
	if token == "" || !state.Network.Endpoint.IsValid() {
		return nil, errors.New("it does not run: start it first")
	}
	return guestapi.NewClient(state.Network.Endpoint, token), nil
}
