package main

import (
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/acceptance"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newTest(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "test NAME",
		Short: "Run the acceptance test of a machine",
		Long: `Run the acceptance test of a machine: its process, its network, a ping, a login and a query over the
network, its clock, and Tailscale if it is configured. Exit status 3 means that a check failed.`,
		Example: "  sov-runner test sql\n  sov-runner test sql --json",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			report, err := daemon.Test(c.Context(), o.layout(), args[0])
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = acceptance.Print(c.OutOrStdout(), report)
			}
			if err == nil && len(finding.Failures(report.Checks)) > 0 {
				err = errFound
			}
			return err
		},
	}
}
