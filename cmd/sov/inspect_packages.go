package main

import (
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline"
)

func newInspectPackages() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "packages IMAGE",
		Short:   "List the installed Alpine packages",
		Example: "  sov inspect packages out/sql/arm64",
		Args:    cobra.ExactArgs(1),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			packages, err := inspect.Packages(filesystem)
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, packages, func(p *printer) {
				for _, pkg := range packages {
					p.printf("%-32s %-20s %10s  %s\n", pkg.Name, pkg.Version, pipeline.FormatSize(pkg.Size), pkg.License)
				}
			})
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}
