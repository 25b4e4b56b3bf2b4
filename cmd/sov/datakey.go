package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
)

// withDataKey returns a site whose sov-runner is given the key of a machine's data disk, where that
// is not kept on the phone, and the arguments that say so.
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

// sayDataKey says, once, that the key of an encrypted data disk was made, and what it is worth.
func sayDataKey(w io.Writer, verb, name, path string) {
	fmt.Fprintf(w, "%s: the data disk of %s is encrypted; its key was made and is kept in %s: save a copy elsewhere, a lost key is lost data (docs/secrets.md)\n", verb, name, path)
}
