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

// pullReport is what `sov pull --json` prints.
type pullReport struct {
	Dir       string `json:"dir"`
	Reference string `json:"reference"` // with the digest
	Name      string `json:"name"`
	Version   string `json:"version"`
	Arch      string `json:"arch"`
	SignedBy  string `json:"signed_by,omitempty"` // ID of the key
	Proven    bool   `json:"proven"`              // that key is the one asked for
	Changed   bool   `json:"changed"`
}

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
			report := pullReport{Arch: arch}
			err = t.do(c, "pull", func(ctx context.Context, task *pipeline.Task) error {
				m, err := publish.Open(ctx, ref, arch, key, publish.Options{Task: task})
				if err != nil {
					return err
				}
				report.Reference, report.Name, report.Version = m.Reference, m.Manifest.Name, m.Manifest.Version
				report.SignedBy, report.Proven = m.SignedBy, key != nil
				report.Dir, report.Changed, err = m.Place(ctx, t.out, export.Replace)
				return err
			})
			if errors.Is(err, publish.ErrUnproven) {
				return &foundError{err.Error()}
			}
			if err != nil {
				return err
			}
			return t.printPulled(c, report)
		},
	}
	t.flags(c)
	archFlag(c, &arch)
	c.Flags().StringVar(&keyPath, "key", "", "public key that must have signed the machine")
	return c
}

func (t *transfer) printPulled(c *cobra.Command, r pullReport) error {
	if t.asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	signed := "unsigned"
	switch {
	case r.Proven:
		signed = fmt.Sprintf("signed by key %.16s…", r.SignedBy)
	case r.SignedBy != "":
		signed = fmt.Sprintf("it says it was signed by key %.16s…; --key checks", r.SignedBy)
	}
	verb := "is ready"
	if !r.Changed {
		verb = "is up to date"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s: %s %s, %s\n", r.Dir, verb, r.Name, r.Version, signed)
	return err
}
