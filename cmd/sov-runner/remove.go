package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newRemove(o *options) *cobra.Command {
	var data bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Shut a machine down and remove it from this phone",
		Long: `Shut a machine down in order and remove it. Its data disk and its secrets stay, and a machine that is installed later under
the same name takes them on; --data removes them too, for ever. The last machine takes this program along.`,
		Example: "  sov-runner remove sql\n  sov-runner remove sql --data",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := daemon.Remove(c.Context(), o.layout(), args[0], data, progress(c.ErrOrStderr(), args[0]))
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			if !r.Found {
				fmt.Fprintf(c.OutOrStdout(), "%s is not installed\n", r.Name)
			} else {
				fmt.Fprintf(c.OutOrStdout(), "%s is removed\n", r.Name)
			}
			for _, path := range r.Kept {
				fmt.Fprintf(c.OutOrStdout(), "kept: %s\n", path)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&data, "data", false, "remove its data disk and secrets as well")
	return c
}
