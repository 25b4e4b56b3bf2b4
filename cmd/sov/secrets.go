package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/secrets"
)

func newSecrets() *cobra.Command {
	c := &cobra.Command{
		Use:   "secrets",
		Short: "Keep a machine's passwords and auth keys: set, list, rm",
		Long: `Keep a machine's passwords and auth keys on this computer. ` + "`sov run`" + ` hands them to the machine it starts, and the phone
gets them from here; no build ever contains one. A machine takes them at its start.

  postgres     the superuser's password
  role-NAME    the password of a role that the recipe lists
  tailscale    an auth key, by which the machine joins a tailnet

They are files in secrets/ of sov's folder in the user's configuration ($SOV_CONFIG_DIR in its place), which only their
owner may read, encrypted with age if wished. See docs/secrets.md.`,
		Example: `  sov secrets set sql postgres
  sov secrets list sql
  sov secrets rm sql tailscale`,
	}
	c.AddCommand(newSecretsSet(), newSecretsList(), newSecretsRm())
	return c
}

// configDir is where sov keeps what the user has set: $SOV_CONFIG_DIR, else sov/ in the user's configuration folder.
func configDir() (string, error) {
	if dir := os.Getenv("SOV_CONFIG_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration folder: %w: set $SOV_CONFIG_DIR", err)
	}
	return filepath.Join(base, "sov"), nil
}

// identityFlag adds --identity, by whose file encrypted secrets are opened.
func identityFlag(c *cobra.Command, identity *string) {
	c.Flags().StringVar(identity, "identity", os.Getenv("SOV_IDENTITY"), "age identity file of encrypted secrets; $SOV_IDENTITY names it too")
}

// openSecrets returns the user's secrets; identity is what --identity says. A passphrase is asked for at the terminal when
// one is needed.
func openSecrets(identity string) (*secrets.Store, error) {
	dir, err := configDir()
	if err != nil {
		return nil, err
	}
	return secrets.Open(filepath.Join(dir, "secrets"), secrets.Keys{Identity: identity, Ask: askHidden}), nil
}

// secretNames completes the names of secrets behind the machine: those that its recipe uses or, if held is set, those that
// are kept.
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
