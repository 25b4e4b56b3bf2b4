package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newSession(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "session NAME",
		Short: "Connect standard input and output to a session of the guest, for sov shell and sov exec",
		Long: `Connect standard input and output to a session of a machine's guest: the frames of "sov shell" and
"sov exec". It is not for interactive use.`,
		Example: "  sov-runner session sql",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := whileRead(c.Context(), os.Stdout)
			defer cancel()
			return daemon.Session(ctx, o.layout(), args[0], os.Stdin, os.Stdout)
		},
	}
}
