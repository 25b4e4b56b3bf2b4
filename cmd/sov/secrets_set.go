package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

// secretsSetFlags are the flags of `sov secrets set`.
type secretsSetFlags struct {
	identity   string
	passphrase bool
	exact      bool
}

func newSecretsSet() *cobra.Command {
	var f secretsSetFlags
	c := &cobra.Command{
		Use:   "set MACHINE SECRET",
		Short: "Set or replace a secret",
		Long: `Set or replace a secret. At a terminal, sov asks for the value twice and does not show it. Otherwise
it reads the value from the standard input, without a newline at the end (--exact keeps the
newline). The value cannot be an argument, because every process of the computer can read arguments.

A role's password must have at least 12 characters. Well-known words, the name of the role or of the
machine, and sequences are refused. sov secrets generate generates a password.

With --identity, secrets are encrypted to this age identity. With --passphrase, they are encrypted
to a new identity, which is protected by a passphrase. Both encrypt this secret, all existing
secrets, and all secrets that are set later. Setting a secret later needs neither identity nor
passphrase.`,
		Example: `  sov secrets set sql postgres
  pass show phone/tailscale | sov secrets set sql tailscale
  sov secrets set sql postgres --passphrase
  sov secrets set ./mine.yaml role-app --identity ~/.config/age/key.txt`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: secretNames(false),
		RunE:              func(c *cobra.Command, args []string) error { return setSecret(c, args[0], args[1], f) },
	}
	flags := c.Flags()
	identityFlag(c, &f.identity)
	flags.BoolVar(&f.passphrase, "passphrase", false, "encrypt the secrets with a passphrase")
	flags.BoolVar(&f.exact, "exact", false, "keep a newline at the end of the standard input")
	return c
}

func setSecret(c *cobra.Command, machine, name string, f secretsSetFlags) error {
	if err := excludeEachOther(c, [2]string{"identity", "passphrase"}); err != nil {
		return err
	}
	vm, _, err := machineOf(machine, name)
	if err != nil {
		return err
	}
	store, err := f.open(c)
	if err != nil {
		return err
	}
	if name == guestspec.SecretDataKey {
		if kept, err := store.Has(vm, name); err != nil || kept {
			return cmp.Or(err, fmt.Errorf("set secret %s of %s: one is kept, and a disk that it encrypted opens by no other: `sov rekey %[2]s` changes it; to give another, save it and type `sov secrets rm %[2]s %[1]s`", name, vm))
		}
	}
	value, err := readSecret(c, fmt.Sprintf("secret %s of %s", name, vm), f.exact)
	if err != nil {
		return err
	}
	if len(value) > 0 { // Set rejects an empty value
		if err := secrets.CheckPassword(vm, name, string(value)); err != nil {
			return err
		}
	}
	if err := store.Set(vm, name, value); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "secrets: %s of %s is set; the machine reads it at its next start\n", name, vm)
	return nil
}

// open returns the store, with encryption if the flags request it.
func (f secretsSetFlags) open(c *cobra.Command) (*secrets.Store, error) {
	open := openSecrets
	if f.passphrase { // a passphrase is used even if an identity is set
		open = secretsOpenedBy
	}
	store, err := open(f.identity)
	if err != nil {
		return nil, err
	}
	n, err := store.EncryptIfWanted(c.Context(), f.passphrase || c.Flags().Changed("identity"))
	if n > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "secrets: encrypted %d that were kept plain\n", n)
	}
	return store, err
}

// readSecret asks for a secret at the terminal or, if standard input is not a terminal, reads it
// from there. It removes the final newline unless exact is set.
func readSecret(c *cobra.Command, what string, exact bool) ([]byte, error) {
	in := c.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		value, err := askHidden(c.Context(), what, true)
		return []byte(value), err
	}
	value, err := unlessDone(c.Context(), func() ([]byte, error) {
		return io.ReadAll(io.LimitReader(in, guestspec.MaxSecret+int64(len("\r\n"))+1)) // a longer value is rejected because of its length
	})
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	if trimmed, ok := bytes.CutSuffix(value, []byte("\n")); ok && !exact {
		value = bytes.TrimSuffix(trimmed, []byte("\r"))
	}
	return value, nil
}
