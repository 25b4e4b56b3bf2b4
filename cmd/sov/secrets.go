package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/secrets"
	"github.com/sovereign-sql/sov/internal/host/settings"
)

func newSecrets() *cobra.Command {
	c := &cobra.Command{
		Use:   "secrets",
		Short: "Manage a machine's passwords and auth keys: set, generate, show, list, rm",
		Long: `Keep a machine's passwords and auth keys on this computer. ` + "`sov run`" + ` passes them to the machine, and
sov push copies them to the phone. An artifact never contains a secret. A machine reads its secrets
when it starts.

  postgres     the superuser's password
  role-NAME    the password of a role that the recipe lists
  tailscale    an auth key, with which the machine joins a tailnet
  tailscale-api
               an API access token, with which this computer removes nodes of deleted machines from
               the tailnet; it is never sent to a phone
  data-key     the key of encrypted disks (vm.encrypt, volumes); generated at the first start
  NAME         a secret that the recipe declares for its services

Secrets are files in secrets/ in sov's configuration folder ($SOV_CONFIG_DIR, by default sov in the
user's configuration folder). Only their owner may read them, and they can be encrypted with age.
See docs/secrets.md.`,
		Example: `  sov secrets set sql postgres
  sov secrets generate sql role-app
  sov secrets list sql
  sov secrets rm sql tailscale`,
	}
	c.AddCommand(newSecretsSet(), newSecretsGenerate(), newSecretsShow(), newSecretsList(), newSecretsRm())
	return c
}

// identityFlag adds --identity, the file that decrypts secrets.
func identityFlag(c *cobra.Command, identity *string) {
	c.Flags().StringVar(identity, "identity", "", "age identity file of encrypted secrets (default: $SOV_IDENTITY)")
}

// openSecrets returns the user's secrets. identity is the value of --identity.
func openSecrets(identity string) (*secrets.Store, error) {
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return nil, err
	}
	return secretsOpenedBy(s.Get(settings.Identity, identity).One())
}

// secretsOpenedBy returns the user's secrets, which an identity file decrypts. It asks for a
// passphrase at the terminal if one is required.
func secretsOpenedBy(identity string) (*secrets.Store, error) {
	dir, err := folders.Config(os.Getenv)
	if err != nil {
		return nil, err
	}
	return secrets.Open(filepath.Join(dir, "secrets"), secrets.Keys{Identity: identity, Ask: askHidden}), nil
}

// secretNames completes the names of a machine's secrets: all that its recipe uses or, if held is
// set, only stored ones.
func secretNames(held bool) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return recipes(c, args, prefix)
		case 1:
			list, err := listSecrets(args[0])
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			var names []string
			for _, secret := range list {
				if secret.Set || !held {
					names = append(names, secret.Name+"\t"+secret.State())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// machineSecrets returns the name of the machine for an argument, its recipe if that is known, and
// the user's secrets.
func machineSecrets(argument string) (string, *recipe.Recipe, *secrets.Store, error) {
	vm, known, err := built.Machine(argument)
	if err != nil {
		return "", nil, nil, err
	}
	store, err := openSecrets("")
	return vm, known, store, err
}

// machineOf returns the machine for an argument and whether sov generates the secret. It returns an
// error if the machine cannot have a secret of that name. The declared secrets are those of the
// recipe or, if that is unknown, those of the build.
func machineOf(argument, secret string) (vm string, generates bool, err error) {
	vm, known, err := built.Machine(argument)
	if err != nil {
		return "", false, err
	}
	if known != nil {
		err, generates = known.CheckSecret(secret), known.Generates(secret)
	} else {
		declared := built.Secrets(argument)
		err, generates = recipe.CheckSecret(secret, declared), recipe.Generates(secret, declared)
	}
	if err != nil {
		return "", false, &usageError{err}
	}
	return vm, generates, nil
}

func newSecretsRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm MACHINE SECRET...",
		Short: "Remove secrets",
		Long: `Remove secrets from this computer. Removing a secret that the recipe uses and that is not set is not
an error. A machine that has already read a secret is not changed: a role keeps its password, and a
node stays in its tailnet.`,
		Example:           "  sov secrets rm sql tailscale",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: secretNames(true),
		RunE: func(c *cobra.Command, args []string) error {
			vm, known, store, err := machineSecrets(args[0])
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
				case known != nil && slices.Contains(known.Secrets(), name):
					fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s was not set\n", name, vm)
				default:
					failed = errors.Join(failed, fmt.Errorf("%s has no secret %s: `sov secrets list %[1]s` shows those that it has", vm, name))
				}
			}
			return failed
		},
	}
}
