package main

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/secrets"
	"github.com/spf13/cobra"
)

func newSecretsList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list RECIPE",
		Short: "List a machine's secrets, and what its recipe uses besides, without their values",
		Long: `List the secrets that are kept for a machine, and those that its recipe uses and that are not set. No value is shown, and
none is needed to be opened.`,
		Example: "  sov secrets list sql\n  sov secrets list ./mine.yaml --json",
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			list, err := listSecrets(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, secret := range list {
				changed := ""
				if secret.Changed != nil {
					changed = secret.Changed.Local().Format("2006-01-02 15:04")
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", secret.Name, changed, secret.State())
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// listSecrets describes the secrets of the machine that an argument means: those that its recipe uses, in that order, and
// then the others that are kept.
func listSecrets(machine string) ([]secrets.Secret, error) {
	vm, known, err := built.Machine(machine)
	if err != nil {
		return nil, err
	}
	store, err := openSecrets("")
	if err != nil {
		return nil, err
	}
	kept, err := store.List(vm)
	if err != nil {
		return nil, err
	}
	list := []secrets.Secret{}
	if known != nil {
		for _, name := range known.Secrets() {
			list = append(list, secrets.Secret{Name: name, Used: new(true)})
		}
	}
	for _, info := range kept {
		i := slices.IndexFunc(list, func(r secrets.Secret) bool { return r.Name == info.Name })
		if i < 0 {
			i = len(list)
			list = append(list, secrets.Secret{Name: info.Name})
			if known != nil {
				list[i].Used = new(false)
			}
		}
		list[i].Set, list[i].Encrypted, list[i].Changed = true, info.Encrypted, new(info.Changed.UTC())
	}
	return list, nil
}
