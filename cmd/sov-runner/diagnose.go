package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/phone/daemon"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

func newDiagnose(o *options) *cobra.Command {
	var fix bool
	c := &cobra.Command{
		Use:   "diagnose NAME",
		Short: "Find the broken layer of a machine",
		Long: `Check the machine's nine layers, each of which depends on earlier ones: its process, its TAP
interface, policy routing, NAT and forwarding on the phone; the guest's network, its clock,
Tailscale, PostgreSQL, all its services. The first broken layer is printed as the cause. --fix
repairs the phone's network and starts a machine that is not running. Exit status 3 means that a
layer is broken.`,
		Example: "  sov-runner diagnose sql\n  sov-runner diagnose sql --fix --json",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			up := daemon.UpOptions{Program: program, Report: progress(c.ErrOrStderr(), args[0])}
			report, fault := daemon.Diagnose(c.Context(), o.layout(), args[0], fix, up)
			if report == nil {
				return fault
			}
			if o.json {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = diagnose.Print(c.OutOrStdout(), report)
			}
			if fault != nil {
				fmt.Fprintln(c.ErrOrStderr(), "sov-runner:", fault)
			}
			if err == nil && report.Cause != "" {
				err = errFound
			}
			return err
		},
	}
	c.Flags().BoolVar(&fix, "fix", false, "repair the phone's side")
	return c
}
