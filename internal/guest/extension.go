//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/guest/cluster"
)

// ensureExtension is the step postgres-extension.
func ensureExtension(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	var e cluster.Extension
	flags := newFlags("postgres-extension", stderr)
	socket := flags.String("socket", "", "the `path` of the server's socket")
	database := flags.String("database", "", "the `name` of the database")
	flags.StringVar(&e.Name, "name", "", "the `extension`")
	flags.StringVar(&e.Schema, "schema", "", "the `name` of the schema that it is created in")
	flags.StringVar(&e.Version, "version", "", "the `version` that it is to have; the newest if empty")
	if err := parse(flags, args, "schema", "version"); err != nil {
		return err
	}
	did, err := e.Ensure(ctx, *socket, *database)
	for _, line := range did {
		fmt.Fprintln(stderr, line)
	}
	return err
}
