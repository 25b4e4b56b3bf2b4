package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
)

func newSecretsShow() *cobra.Command {
	var identity string
	c := &cobra.Command{
		Use:   "show MACHINE SECRET",
		Short: "Print a secret",
		Long: `Print the value of a secret on this computer and a newline, for example a generated password. An
encrypted secret needs --identity or the passphrase.`,
		Example: `  sov secrets show sql role-app
  PGPASSWORD="$(sov secrets show sql role-app)" psql -h sovereign-sql -U app app`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: secretNames(true),
		RunE: func(c *cobra.Command, args []string) error {
			vm, _, err := built.Machine(args[0])
			if err != nil {
				return err
			}
			store, err := openSecrets(identity)
			if err != nil {
				return err
			}
			value, err := store.Get(c.Context(), vm, args[1])
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s has no secret %s on this computer: `sov secrets list %[1]s` shows those that it has", vm, args[1])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", value)
			return err
		},
	}
	identityFlag(c, &identity)
	return c
}

func newSecretsGenerate() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "generate MACHINE SECRET",
		Short: "Generate a secret and store it",
		Long: `Generate a secret of 128 bits: the password of a role of the database (postgres, or role-NAME), or a
secret that the recipe declares with generate: true. It is not printed; sov secrets show prints it.
An existing secret is replaced only with --replace.`,
		Example: `  sov secrets generate sql role-app
  sov secrets generate sql postgres --replace`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: secretNames(false),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[1]
			vm, generates, err := machineOf(args[0], name)
			if err != nil {
				return err
			}
			if !generates {
				return usagef("%s is neither the password of a role nor has it generate: true in the recipe: set it with `sov secrets set %s %[1]s`", name, args[0])
			}
			store, err := openSecrets("")
			if err != nil {
				return err
			}
			kept, err := store.Has(vm, name)
			if err != nil {
				return err
			}
			if kept && !replace {
				return fmt.Errorf("%s of %s is set already: --replace generates another", name, vm)
			}
			if _, _, err := store.Generate(vm, name); err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s is generated; `sov secrets show %[2]s %[1]s` prints it, and the machine reads it at its next start\n", name, vm)
			return nil
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "replace an existing secret")
	return c
}
