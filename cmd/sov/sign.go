package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/host/built"
)

func newSign() *cobra.Command {
	var keyPath string
	c := &cobra.Command{
		Use:   "sign DIR",
		Short: "Sign a built machine",
		Long: `Sign a built machine: check that its files are what its manifest and its provenance say, and write the provenance with a
signature to ` + provenance.Signed + ` beside them. No other byte of the artifact changes; the same key and artifact give the
same signature. One that is there is replaced.`,
		Example: `  sov sign out/sql/arm64
  sov sign out/sql/arm64 --key release.pem
  printf '%s' "$SIGNING_KEY" | sov sign out/sql/arm64 --key /dev/stdin`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyFile(nonEmpty(keyPath))
			if err != nil {
				return err
			}
			key, err := dsse.LoadPrivate(path)
			if err != nil {
				return err
			}
			problems, err := manifest.Verify(c.Context(), args[0])
			if err != nil {
				return built.NotBuilt(err)
			}
			verdict, err := provenance.Verify(args[0], nil)
			if err != nil {
				return err
			}
			for _, p := range append(problems, verdict.Problems...) {
				if p.File != provenance.Signed { // it is about to be replaced
					return foundf("not signed: %s is not sound: %v", args[0], p)
				}
			}
			changed, err := provenance.Sign(args[0], key)
			if err != nil {
				return err
			}
			return printSigned(c, args[0], key, changed)
		},
	}
	c.Flags().StringVar(&keyPath, "key", "", "private key (default: sov/key.pem in the user's configuration folder)")
	return c
}

func printSigned(c *cobra.Command, dir string, key dsse.PrivateKey, changed bool) error {
	verb := "signed"
	if !changed {
		verb = "was signed already:"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s with key %.16s…\n", verb, dir, key.Public().ID())
	return err
}

// nonEmpty is a list of the text, or of nothing.
func nonEmpty(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}
