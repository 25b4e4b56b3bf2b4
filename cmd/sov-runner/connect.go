package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newConnect(o *options) *cobra.Command {
	service := guestspec.ServicePostgres
	c := &cobra.Command{
		Use:     "connect NAME",
		Short:   "Connect standard input and output to a service of a machine, for sov forward",
		Example: "  sov-runner connect sql",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := whileRead(c.Context(), os.Stdout)
			defer cancel()
			return daemon.Connect(ctx, o.layout(), args[0], service, os.Stdin, os.Stdout)
		},
	}
	c.Flags().StringVar(&service, "service", service, "what the machine offers")
	return c
}
