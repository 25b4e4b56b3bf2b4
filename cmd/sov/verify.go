package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/verify"
	"github.com/sovereign-sql/sov/pipeline"
)

func newVerify() *cobra.Command {
	var asJSON bool
	var keyPath string
	c := &cobra.Command{
		Use:   "verify NAME|DIR",
		Short: "Check a built machine: files, file system, kernel, signature",
		Long: `Check a built machine:

  files             their sizes and SHA-256 match the manifest and the provenance
  root file system  its checksums, bitmaps and link counts are correct
  kernel            its configuration has the options that the guest needs

Symbolic links without a target are listed but are not errors. With --key, the artifact must also be
signed with the private key of this public key: an unsigned artifact, and any change after signing,
is an error.

Exit status: 0 if the machine passes all checks, 3 with a list of errors.`,
		Example: `  sov verify sql
  sov verify out/sql/arm64 --key sov.pub
  sov verify out/sql/arm64 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			key, err := publicKey(keyPath)
			if err != nil {
				return err
			}
			if err := findBuilt(args); err != nil {
				return err
			}
			var report *verify.Report
			err = working(c, "verify", func(ctx context.Context, _ *pipeline.Task) (err error) {
				report, err = verify.Artifact(ctx, args[0], key)
				return err
			})
			if err != nil {
				return err
			}
			err = printResult(c.OutOrStdout(), asJSON, report, func(p *printer) { printVerified(p, report) })
			return orFound(err, len(report.Problems) > 0, "%s: %d problem(s)", args[0], len(report.Problems))
		},
	}
	c.Flags().StringVar(&keyPath, "key", "", "public key that must have signed the artifact")
	jsonFlag(c, &asJSON)
	return c
}

// publicKey reads a public key's file. An empty path returns nil.
func publicKey(path string) (dsse.PublicKey, error) {
	if path == "" {
		return nil, nil
	}
	return dsse.LoadPublic(path)
}

func printVerified(p *printer, r *verify.Report) {
	for _, check := range r.Checks {
		p.printf("checked %s\n", check)
	}
	if len(r.Uncovered) > 0 {
		p.printf("did not check %s: no file of the artifact\n", strings.Join(r.Uncovered, ", "))
	}
	for _, link := range r.Dangling {
		p.printf("note: %s leads to %s, which is not in the image\n", link.Path, link.Target)
	}
	for _, problem := range r.Problems {
		p.printf("FAULT %v\n", problem)
	}
	if len(r.Problems) == 0 {
		p.printf("%s is sound\n", r.Dir)
	}
}
