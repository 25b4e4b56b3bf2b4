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
		Short: "Download a published machine from a registry",
		Long: `Download a published machine into OUT/NAME/ARCH, the folder that sov build would use. Every file is
checked against the manifest, and the manifest against the provenance.

With --key, the provenance must be signed with that key for this reference. The machine is then
exactly the one that the owner of the key has published there, even if the registry is hostile.
--published-as names the reference of the signature if REF is on a mirror. A serial lower than the
highest one pulled from the repository before is refused; --allow-downgrade accepts it. sov keeps
the serials in serials.json in its state folder.

All files appear in the folder at once. If a pull is interrupted, the next one resumes it. Files
that are already in the folder are not downloaded again.

Exit status: 0 if the machine was downloaded, 3 if the signature is refused, 1 on any other error.`,
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
	c.Flags().BoolVar(&allowDowngrade, "allow-downgrade", false, "accept a serial that is lower than an earlier one, or a signature without a serial")
	c.Flags().StringVar(&publishedAs, "published-as", "", "the original reference of the machine, if REF is on a mirror")
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
