package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

func newSecretsList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list MACHINE",
		Short: "List a machine's secrets without their values",
		Long: `List the secrets of a machine: those that are set, and those that its recipe uses and that are not
set. Values are not printed, so encrypted secrets need no identity or passphrase here.`,
		Example: "  sov secrets list sql\n  sov secrets list ./mine.yaml --json",
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			list, err := listSecrets(args[0])
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, list, func(p *printer) {
				table := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
				for _, secret := range list {
					changed := ""
					if secret.Changed != nil {
						changed = secret.Changed.Local().Format("2006-01-02 15:04")
					}
					fmt.Fprintf(table, "%s\t%s\t%s\n", secret.Name, changed, secret.State())
				}
				p.err = table.Flush()
			})
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

// listSecrets describes the secrets of the machine for an argument.
func listSecrets(machine string) ([]secrets.Secret, error) {
	vm, known, store, err := machineSecrets(machine)
	if err != nil {
		return nil, err
	}
	var uses []string
	if known != nil {
		uses = known.Secrets()
	} else {
		for _, declared := range built.Secrets(machine) {
			uses = append(uses, declared.Name)
		}
	}
	return store.Survey(vm, uses, known != nil)
}
