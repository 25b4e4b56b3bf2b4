package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

func newInspectCat() *cobra.Command {
	return &cobra.Command{
		Use:     "cat IMAGE PATH...",
		Short:   "Print files",
		Example: "  sov inspect cat out/sql/arm64 /etc/os-release",
		Args:    cobra.MinimumNArgs(2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			for i := range args[1:] {
				file, err := filesystem.Open(inspect.Inside(args[1+i]))
				if err != nil {
					return err
				}
				_, err = io.Copy(c.OutOrStdout(), file)
				file.Close()
				if err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
