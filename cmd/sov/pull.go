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
	var arch, keyPath, publishedAs string
	var allowDowngrade bool
	c := &cobra.Command{
		Use:   "pull REF",
		Short: "Fetch a published machine from a registry",
		Long: `Fetch a machine that sov publish has pushed into OUT/NAME/ARCH, as a build would have made it. Every file is checked against
the manifest, the manifest against the provenance. With --key the provenance must be signed by that key for this reference:
then it is, byte for byte, what the holder of the key published there, whatever the registry does. A signature for another
reference is refused, unless --published-as names that: the registry is a mirror then. A serial lower than the highest that
was pulled from the repository before is refused unless with --allow-downgrade; serials.json in sov's state folder keeps it.

The files take their place together. What an interrupted pull has fetched is kept for the next one; files that are there
already are not fetched.

Exit status: 0 when the machine is there, 3 when it has no signature that is accepted, 1 for anything else.`,
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
			o := publish.Options{AllowDowngrade: allowDowngrade}
			if publishedAs != "" {
				if o.PublishedAs, err = registryReference(publishedAs); err != nil {
					return err
				}
			}
			if o.Serials, err = serialMemory(); err != nil {
				return err
			}
			var fetched *publish.Fetched
			err = t.do(c, "pull", func(ctx context.Context, task *pipeline.Task) (err error) {
				o.Task = task
				fetched, err = publish.Fetch(ctx, ref, arch, key, t.out, export.Replace, o)
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
	c.Flags().BoolVar(&allowDowngrade, "allow-downgrade", false, "accept a serial lower than one before, or a signature without a serial")
	c.Flags().StringVar(&publishedAs, "published-as", "", "the reference that the machine was published under, if REF is on a mirror")
	return c
}

func printPulled(p *printer, f *publish.Fetched) {
	signed := "unsigned"
	switch {
	case f.Proven:
		signed = fmt.Sprintf("signed by key %.16s…, serial %d", f.SignedBy, f.Serial)
	case f.SignedBy != "":
		signed = fmt.Sprintf("it says it was signed by key %.16s…; --key checks", f.SignedBy)
	}
	verb := "is ready"
	if !f.Changed {
		verb = "is up to date"
	}
	p.printf("%s %s: %s %s, %s\n", f.Dir, verb, f.Name, f.Version, signed)
}
