package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
)

// withDataKey returns a site whose sov-runner receives the key of a machine's data disk if the
// phone does not store it, and the arguments for that.
func withDataKey(ctx context.Context, s *fleet.Site, identity, name string, args []string) (*fleet.Site, []string, error) {
	store, err := openSecrets(identity)
	if err != nil {
		return nil, nil, err
	}
	keys, err := install.DataKeys(ctx, s, store, name)
	if err != nil || keys == nil {
		return s, args, err
	}
	given := *s
	given.Stdin = keys
	return &given, append(args, "--keys"), nil
}

// sayDataKey prints that a key for an encrypted data disk was generated, where it is kept, and that
// it needs a copy.
func sayDataKey(w io.Writer, verb, name, path string) {
	fmt.Fprintf(w, "%s: the data disk of %s is encrypted; its key was made and is kept in %s: save a copy elsewhere, a lost key is lost data (docs/secrets.md)\n", verb, name, path)
}
