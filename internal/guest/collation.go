//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/guest/cluster"
)

// fitCollations is the step postgres-collations. After an error the cluster is still started: its
// owner needs access, and PostgreSQL warns in every session.
func fitCollations(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	c := cluster.Collations{Output: stderr}
	flags := newFlags("postgres-collations", stderr)
	flags.StringVar(&c.Data, "data", "", "the data `directory`")
	flags.StringVar(&c.Bin, "bin", "", "the `directory` of postgres")
	flags.StringVar(&c.OldBin, "old-bin", "", "the `directory` of the programs of an older major version")
	flags.StringVar(&c.User, "user", "", "the `user` to whom the cluster belongs")
	flags.StringVar(&c.Config, "config", "", "the `path` of postgresql.conf")
	flags.StringVar(&c.Image, "image", "", "what stands for the image's libraries that sort text")
	if err := parse(flags, args, "old-bin"); err != nil {
		return err
	}
	err := c.Run(ctx)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "%v: indexes of text may be in the old order, and this is tried again at the next start\n", err)
		return nil
	}
	return err
}
