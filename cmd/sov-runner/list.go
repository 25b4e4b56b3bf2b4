package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the machines on this phone",
		Long: `List the machines on this phone: installed ones, and removed ones whose data was kept. With --json
each has the fields of status.`,
		Example: "  sov-runner list\n  sov-runner list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names, err := daemon.Machines(o.layout())
			if err != nil {
				return err
			}
			machines := []*health.Machine{}
			for _, name := range names {
				m, err := daemon.Status(c.Context(), o.layout(), name)
				if err != nil {
					return err
				}
				machines = append(machines, m)
			}
			if o.json {
				return printJSON(c.OutOrStdout(), machines)
			}
			for _, m := range machines {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", m.Name, m.Phase); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
