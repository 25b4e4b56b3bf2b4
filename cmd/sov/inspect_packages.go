package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// packageReport is one installed package as `--json` prints it.
type packageReport struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Size    int64  `json:"installed_size"` // bytes
	License string `json:"license,omitempty"`
	Origin  string `json:"origin,omitempty"` // the source package
}

func newInspectPackages() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "packages IMAGE",
		Short:   "List the installed Alpine packages",
		Example: "  sov inspect packages out/sql/arm64",
		Args:    cobra.ExactArgs(1),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			t, err := filesystem.Tree()
			if err != nil {
				return err
			}
			installed, err := apk.Installed(t)
			if err != nil {
				return err
			}
			reports := []packageReport{}
			for _, p := range installed {
				reports = append(reports, packageReport{p.Name, p.Version, p.Arch, p.InstalledSize, p.License, p.Origin})
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), reports)
			}
			for _, p := range reports {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%-32s %-20s %10s  %s\n", p.Name, p.Version, progress.FormatSize(p.Size), p.License); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
