package main

import (
	"errors"
	"fmt"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/spf13/cobra"
)

func newSecretsRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm RECIPE NAME...",
		Short: "Forget secrets",
		Long: `Forget secrets. One that is not there is no error. A machine that has taken one keeps it: a role's password stays what it
was set to, and a node that has joined a tailnet stays in it.`,
		Example:           "  sov secrets rm sql tailscale",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: secretNames(true),
		RunE: func(c *cobra.Command, args []string) error {
			vm, _, err := built.Machine(args[0])
			if err != nil {
				return err
			}
			store, err := openSecrets("")
			if err != nil {
				return err
			}
			var failed error
			for _, name := range args[1:] {
				found, err := store.Remove(vm, name)
				switch {
				case err != nil:
					failed = errors.Join(failed, err)
				case found:
					fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s is forgotten\n", name, vm)
				default:
					fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s was not set\n", name, vm)
				}
			}
			return failed
		},
	}
}
