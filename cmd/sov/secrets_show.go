package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

func newSecretsShow() *cobra.Command {
	var identity string
	c := &cobra.Command{
		Use:   "show MACHINE SECRET",
		Short: "Print a secret",
		Long: `Print the value of a secret that is kept on this computer, and a newline: a generated password, for a program that logs
in. An encrypted one is opened as other commands do, by --identity or the passphrase.`,
		Example: `  sov secrets show sql role-app
  PGPASSWORD="$(sov secrets show sql role-app)" psql -h sovereign-sql -U app app`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: secretNames(true),
		RunE: func(c *cobra.Command, args []string) error {
			vm, store, err := storeFor(args[0], args[1], identity)
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
		Short: "Generate a role's password and keep it",
		Long: `Generate a password of 128 bits for a role of the database, and keep it as the secret: postgres, or role-NAME. It is not
printed; sov secrets show does so. One that is kept already is replaced only with --replace.`,
		Example: `  sov secrets generate sql role-app
  sov secrets generate sql postgres --replace`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: secretNames(false),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[1]
			vm, store, err := storeFor(args[0], name, "")
			if err != nil {
				return err
			}
			if _, ok := recipe.RoleOf(name); !ok {
				return usagef("%s is not the password of a role: the tailnet makes it; type `sov secrets set %s %[1]s`", name, args[0])
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
			fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s is generated; `sov secrets show %[2]s %[1]s` prints it, a machine takes it at its next start\n", name, vm)
			return nil
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "replace the secret that is kept")
	return c
}

// storeFor returns the machine that an argument means and the user's secrets, if a machine can have a
// secret of that name.
func storeFor(machine, name, identity string) (string, *secrets.Store, error) {
	if err := recipe.CheckSecret(name); err != nil {
		return "", nil, &usageError{err}
	}
	vm, _, err := built.Machine(machine)
	if err != nil {
		return "", nil, err
	}
	store, err := openSecrets(identity)
	return vm, store, err
}
