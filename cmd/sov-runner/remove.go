package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newRemove(o *options) *cobra.Command {
	var remove daemon.RemoveOptions
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Shut a machine down and remove it from this phone",
		Long: `Shut a machine down cleanly and remove it. Its data disk, volumes and secrets stay, and a machine
that is installed later with the same name uses them again; --data deletes them too, permanently.
Removing the last machine also removes this program. --force continues after failed steps and lists
what remains; the exit status is then 1.`,
		Example: "  sov-runner remove sql\n  sov-runner remove sql --data\n  sov-runner remove sql --force",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			remove.Report = progress(c.ErrOrStderr(), args[0])
			r, err := daemon.Remove(c.Context(), o.layout(), args[0], remove)
			if err != nil {
				return err
			}
			var left error
			if len(r.Left) > 0 {
				left = fmt.Errorf("remove %s: left: %s", args[0], strings.Join(r.Left, "; "))
			}
			if o.json {
				return errors.Join(printJSON(c.OutOrStdout(), r), left)
			}
			if !r.Found {
				fmt.Fprintf(c.OutOrStdout(), "%s is not installed\n", r.Name)
			} else {
				fmt.Fprintf(c.OutOrStdout(), "%s is removed\n", r.Name)
			}
			if r.Tailnet != "" {
				fmt.Fprintf(c.OutOrStdout(), "tailnet: %s\n", r.Tailnet)
			}
			for _, path := range r.Kept {
				fmt.Fprintf(c.OutOrStdout(), "kept: %s\n", path)
			}
			return left
		},
	}
	c.Flags().BoolVar(&remove.Data, "data", false, "also delete its data disk, volumes and secrets")
	c.Flags().BoolVar(&remove.Force, "force", false, "continue after failed steps, and list what remains")
	return c
}
