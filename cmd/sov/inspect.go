package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

func newInspect() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect",
		Short: "Look inside an image without mounting it",
		Long: `Look inside an ext4 image, or the root filesystem of an out folder. Nothing is mounted and no privilege is needed;
checksums are verified on the way.`,
		Example: `  sov inspect ls out/sql/arm64 /etc
  sov inspect cat out/sql/arm64 /etc/sov/postgres/postgresql.conf
  sov inspect tree --size out/sql/arm64 /usr
  sov inspect packages out/sql/arm64
  sov inspect config out/sql/arm64`,
	}
	c.AddCommand(newInspectLs(), newInspectCat(), newInspectStat(), newInspectTree(), newInspectPackages(), newInspectConfig())
	return c
}

// withImage opens the image that the first argument names for as long as f takes.
func withImage(f func(c *cobra.Command, filesystem *ext4.FS, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		img, err := built.OpenImage(args[0])
		if err != nil {
			return err
		}
		defer img.Close()
		if err := f(c, img.FS, args); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return nil
	}
}
