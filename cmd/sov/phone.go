package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/trustapi"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newPhone() *cobra.Command {
	c := &cobra.Command{
		Use:     "phone",
		Short:   "Manage the keys that a phone trusts: trust",
		Long:    "Manage the keys that a phone trusts.",
		Example: "  sov phone trust sov.pub",
	}
	c.AddCommand(newPhoneTrust())
	return c
}

// trustFlags are the flags of `sov phone trust`.
type trustFlags struct {
	phoneFlags
	list       bool
	remove     string
	sign       string
	passphrase passphraseFile
}

func newPhoneTrust() *cobra.Command {
	var f trustFlags
	c := &cobra.Command{
		Use:   "trust [KEY]",
		Short: "Make a phone accept only versions that are signed with a key",
		Long: `Make a phone trust the public key in the file KEY. From then on, its sov-runner installs only
versions that are signed with a trusted key, from any computer or module, and whose serial is not
lower than one installed before. Installed versions stay, and sov rollback can return to them. A
phone may trust several keys.

Once a phone trusts a key, every change to its list must be signed by a trusted key (--sign). If all
these keys are lost, root must remove /data/sovereign/trust/keys.json on the phone.

This protects against versions from other sources and against older versions. It does not protect
against root on the phone, including root through adb.`,
		Example: `  sov phone trust sov.pub
  sov phone trust --list
  sov phone trust next.pub --sign release.pem
  sov phone trust --remove sov.pub --sign next.pem`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runPhoneTrust(c, args, f) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.list, "list", false, "list the keys that the phone trusts")
	c.Flags().StringVar(&f.remove, "remove", "", "the key to remove: its public key's file, or its ID as --list prints it")
	c.Flags().StringVar(&f.sign, "sign", "", "sign the change with this private key, which the phone must trust")
	passphraseFlag(c, &f.passphrase)
	return c
}

func runPhoneTrust(c *cobra.Command, args []string, f trustFlags) error {
	var change trustapi.Change
	switch given := len(args) + len(passIf(f.list, "")) + len(passIf(f.remove != "", "")); {
	case given != 1:
		return usagef("KEY is missing or is not all: type `sov phone trust KEY`, `sov phone trust --list` or `sov phone trust --remove KEY`")
	case len(args) == 1:
		key, err := dsse.LoadPublic(args[0])
		if err == nil {
			change.Add, err = key.DER()
		}
		if err != nil {
			return err
		}
	case f.remove != "":
		var err error
		if change.Remove, err = keyID(f.remove); err != nil {
			return err
		}
	}
	var by dsse.PrivateKey
	if f.sign != "" {
		var err error
		if by, err = f.passphrase.loadKey(c.Context(), f.sign); err != nil {
			return err
		}
	}
	return withReporter(c, "auto", func(reporter progress.Reporter) error {
		return f.each(c, func(ctx context.Context, s *fleet.Site) error {
			if !f.list {
				if _, err := push.EnsureRunner(ctx, s, ownRunner(reporter, false)); err != nil {
					return err
				}
				quiet := &fleet.Site{Phone: s.Phone, Out: io.Discard, ErrOut: io.Discard}
				if err := install.ChangeTrust(ctx, quiet, change, by); err != nil {
					return err
				}
			}
			now, err := install.Trusted(ctx, s)
			if errors.Is(err, fleet.ErrNoRunner) {
				return fmt.Errorf("%s: %w: sov push or sov phone trust KEY installs it", s.Name(), fleet.ErrNoRunner)
			}
			if err != nil {
				return err
			}
			return printResult(s.Out, s.AsJSON, now, func(p *printer) { printTrusted(p, now) })
		})
	})
}

func printTrusted(p *printer, l *trustapi.List) {
	if len(l.Keys) == 0 {
		p.printf("the phone trusts no key: versions need no signature\n")
	}
	for _, id := range l.Keys {
		p.printf("the phone takes versions signed by key %s\n", id)
	}
}

// keyID returns the ID of a key. text is the ID, or the file of a public key.
func keyID(text string) (string, error) {
	if id, err := hex.DecodeString(text); err == nil && len(id) == 32 {
		return strings.ToLower(text), nil
	}
	key, err := dsse.LoadPublic(text)
	if err != nil {
		return "", err
	}
	return key.ID(), nil
}

// askTrust asks the user at the terminal whether a phone should accept only versions signed by a
// key.
func askTrust(c *cobra.Command, in io.Reader, phone string, key dsse.PublicKey) (bool, error) {
	fmt.Fprintf(c.ErrOrStderr(), "%s accepts versions from any source. Accept only versions signed by key %.16s… from now on? [y/N] ", terminal.Harmless(phone), key.ID())
	line, err := unlessDone(c.Context(), func() ([]byte, error) { return readLine(in) })
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(string(line)))
	return answer == "y" || answer == "yes", nil
}
