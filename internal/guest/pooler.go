//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/guest/cluster"
)

// ensurePooler is the step postgres-pooler.
func ensurePooler(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	var p cluster.Pooler
	flags := newFlags("postgres-pooler", stderr)
	socket := flags.String("socket", "", "the `path` of the server's socket")
	database := flags.String("database", "", "the `name` of a database that the pooler offers")
	flags.StringVar(&p.Role, "role", "", "the pooler's own `role`")
	if err := parse(flags, args); err != nil {
		return err
	}
	did, err := p.Ensure(ctx, *socket, *database)
	for _, line := range did {
		fmt.Fprintln(stderr, line)
	}
	return err
}
