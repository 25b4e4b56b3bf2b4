package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newRepair(o *options) *cobra.Command {
	what := guestapi.RepairSettings
	c := &cobra.Command{
		Use:   "repair NAME",
		Short: "Repair the database's settings or the tailnet node of a running machine",
		Long: `Make one repair in the guest of a running machine: settings (restart PostgreSQL without the settings
of ALTER SYSTEM that have changed since it was ready), forget (remove the files with settings that
were put aside), tailnet-new, tailnet-same or tailnet-logout.`,
		Example: "  sov-runner repair sql\n  sov-runner repair sql --what forget",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			done, err := daemon.Repair(c.Context(), o.layout(), args[0], what)
			if done == nil {
				return err
			}
			if o.json {
				return errors.Join(printJSON(c.OutOrStdout(), done), err)
			}
			for _, line := range done.Done {
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", args[0], line)
			}
			return err
		},
	}
	c.Flags().StringVar(&what, "what", what, "the repair")
	return c
}
