package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/pipeline"
)

func newSign() *cobra.Command {
	var keyPath string
	var allowCache bool
	c := &cobra.Command{
		Use:   "sign DIR",
		Short: "Sign a built machine",
		Long: `Sign a built machine: check that its files are what its manifest and its provenance say, and write the provenance with a
signature to ` + artifact.SignedFile + ` beside them. No other byte of the artifact changes; the same key and artifact give the
same signature. One that is there is replaced. A machine with parts that its build took from remote caches without a
signature (taken.json lists them) is refused, unless --allow-unsigned-cache says that they are good.`,
		Example: `  sov sign out/sql/arm64
  sov sign out/sql/arm64 --key release.pem
  printf '%s' "$SIGNING_KEY" | sov sign out/sql/arm64 --key /dev/stdin`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var named []string
			if keyPath != "" {
				named = []string{keyPath}
			}
			path, err := keyFile(named)
			if err != nil {
				return err
			}
			key, err := dsse.LoadPrivate(path)
			if err != nil {
				return err
			}
			if err := refuseUnsigned(allowCache, args[0]); err != nil {
				return err
			}
			var changed bool
			err = working(c, "check the artifact", func(ctx context.Context, _ *pipeline.Task) (err error) {
				changed, err = signing.Sign(ctx, args[0], key)
				return err
			})
			if errors.As(err, new(*signing.UnsoundError)) {
				return foundf("%v", err)
			}
			if err != nil {
				return err
			}
			verb := "signed"
			if !changed {
				verb = "was signed already:"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s with key %.16s…\n", verb, args[0], key.Public().ID())
			return err
		},
	}
	allowUnsignedFlag(c, &allowCache)
	c.Flags().StringVar(&keyPath, "key", "", "private key (default: sov/key.pem in the user's configuration folder)")
	return c
}
