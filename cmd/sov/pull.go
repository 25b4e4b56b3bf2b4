package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/publish"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/export"
)

func newPull() *cobra.Command {
	var t transfer
	var arch, keyPath string
	c := &cobra.Command{
		Use:   "pull REF",
		Short: "Fetch a published machine from a registry",
		Long: `Fetch a machine that sov publish has pushed into OUT/NAME/ARCH, as a build would have made it. Every file is checked against
the manifest, the manifest against the provenance. With --key the provenance must be signed by that key: then it is, byte
for byte, what the holder of the key signed, whatever the registry does.

The files take their place together. What an interrupted pull has fetched is kept for the next one; files that are there
already are not fetched.

Exit status: 0 when the machine is there, 3 when it is not signed by the key asked for, 1 for anything else.`,
		Example: `  sov pull registry.example/team/sql:1.0 --key sov.pub
  sov pull registry.example/team/sql:1.0 --arch amd64 -o out`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkArch(arch); err != nil {
				return err
			}
			ref, err := registryReference(args[0])
			if err != nil {
				return err
			}
			key, err := publicKey(keyPath)
			if err != nil {
				return err
			}
			var fetched *publish.Fetched
			err = t.do(c, "pull", func(ctx context.Context, task *pipeline.Task) (err error) {
				fetched, err = publish.Fetch(ctx, ref, arch, key, t.out, export.Replace, publish.Options{Task: task})
				return err
			})
			if errors.Is(err, publish.ErrUnproven) {
				return foundf("%s", err.Error())
			}
			if err != nil {
				return err
			}
			if err := printResult(c.OutOrStdout(), t.asJSON, fetched, func(p *printer) { printPulled(p, fetched) }); err != nil {
				return err
			}
			nextOfBuilt(c, t.asJSON, t.out, fetched.Name, fetched.Arch)
			return nil
		},
	}
	t.flags(c)
	archFlag(c, &arch)
	c.Flags().StringVar(&keyPath, "key", "", "public key that must have signed the machine")
	return c
}

func printPulled(p *printer, f *publish.Fetched) {
	signed := "unsigned"
	switch {
	case f.Proven:
		signed = fmt.Sprintf("signed by key %.16s…", f.SignedBy)
	case f.SignedBy != "":
		signed = fmt.Sprintf("it says it was signed by key %.16s…; --key checks", f.SignedBy)
	}
	verb := "is ready"
	if !f.Changed {
		verb = "is up to date"
	}
	p.printf("%s %s: %s %s, %s\n", f.Dir, verb, f.Name, f.Version, signed)
}
