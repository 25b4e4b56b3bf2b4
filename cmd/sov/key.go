package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/signing"
)

func newKey() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Manage keys to sign artifacts with: new, public, passphrase, sign",
		Long: `Manage keys to sign artifacts with: Ed25519, in PEM files that openssl can read. The private key
signs (sov build --sign, sov sign), and the public key verifies (sov verify --key, sov pull --key).
The private key's file can be encrypted with a passphrase (age). Commands that sign ask for the
passphrase at the terminal or read it from --passphrase-file.`,
		Example: `  sov key new
  sov key public > sov.pub
  sov key passphrase`,
	}
	c.AddCommand(newKeyNew(), newKeyPublic(), newKeyPassphrase(), newKeySign())
	return c
}

// keyFile returns the path of the key in args or, without one, the default path, which is in the
// user's configuration folder because a cache may be deleted.
func keyFile(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration folder: %w: name a file", err)
	}
	return filepath.Join(dir, "sov", "key.pem"), nil
}

// keyOption returns the value of --key or the default path of the private key.
func keyOption(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	return keyFile(nil)
}

func newKeyNew() *cobra.Command {
	var protect bool
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "new [FILE]",
		Short: "Generate a private key",
		Long: `Generate a private key in FILE (default: sov/key.pem in the user's configuration folder), with mode
0600. An existing file is not replaced. With --passphrase or --passphrase-file, the file is
encrypted with a passphrase.`,
		Example: "  sov key new --passphrase\n  sov key new /media/stick/release.pem",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyFile(args)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					return fmt.Errorf("make key: %w", err)
				}
			}
			var seal signing.Seal
			if protect || passphrase != "" {
				ask, err := passphrase.ask()
				if err != nil {
					return err
				}
				seal = signing.WithPassphrase(c.Context(), ask, 0)
			}
			key, err := signing.NewKey(path, seal)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s, key %s\nkeep it to yourself; `sov key public %[1]s` prints what others need to check your signatures\n", path, key.Public().ID())
			return err
		},
	}
	c.Flags().BoolVar(&protect, "passphrase", false, "ask for a passphrase and encrypt the key with it")
	passphraseFlag(c, &passphrase)
	return c
}

func newKeyPublic() *cobra.Command {
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "public [FILE]",
		Short: "Print the public key of a private key",
		Long: `Print the public key of the private key in FILE (default: sov/key.pem in the user's
configuration folder), in PEM.`,
		Example: "  sov key public > sov.pub\n  sov key public release.pem",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyFile(args)
			if err != nil {
				return err
			}
			key, err := passphrase.loadKey(c.Context(), path)
			if err != nil {
				return err
			}
			text, err := key.Public().PEM()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
	passphraseFlag(c, &passphrase)
	return c
}

func newKeyPassphrase() *cobra.Command {
	var old passphraseFile
	var next string
	var remove bool
	c := &cobra.Command{
		Use:   "passphrase [FILE]",
		Short: "Add, change or remove the passphrase of a private key",
		Long: `Encrypt the private key in FILE (default: sov/key.pem in the user's configuration folder) with a new
passphrase. The key itself does not change, so existing signatures and trust stay valid. The file is
replaced in one step. Its old content is removed from the disk but not overwritten, and copies and
backups of the file keep the old passphrase.`,
		Example: "  sov key passphrase\n  sov key passphrase release.pem --remove",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := excludeEachOther(c, [2]string{"remove", "new-passphrase-file"}); err != nil {
				return err
			}
			path, err := keyFile(args)
			if err != nil {
				return err
			}
			unseal, err := old.unseal(c.Context())
			if err != nil {
				return err
			}
			ask := agefile.Ask(askHidden)
			if next != "" {
				ask = agefile.PassphraseFrom(next)
			}
			seal, says := signing.WithPassphrase(c.Context(), ask, 0), "is encrypted with the new passphrase"
			if remove {
				seal, says = nil, "has no passphrase any more"
			}
			key, err := signing.ChangePassphrase(path, unseal, seal)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s, key %s, %s\n", path, key.Public().ID(), says)
			return err
		},
	}
	passphraseFlag(c, &old)
	c.Flags().StringVar(&next, "new-passphrase-file", "", "file with the new passphrase, which only you can read (default: asked for at the terminal)")
	c.Flags().BoolVar(&remove, "remove", false, "write the key without a passphrase")
	return c
}

// maxSigned is the maximum size, in bytes, of a file that is signed directly: Ed25519 needs the
// whole file in memory.
const maxSigned = 64 << 20

func newKeySign() *cobra.Command {
	var keyPath string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign any file, to verify with openssl",
		Long: `Sign FILE, such as the digests of a release, and write the Ed25519 signature to FILE.sig. Use sov
sign for machines, because it checks them first.`,
		Example: `  sov key sign SHA256SUMS --key release.pem
  openssl pkeyutl -verify -rawin -pubin -inkey release.pub -in SHA256SUMS -sigfile SHA256SUMS.sig`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyOption(keyPath)
			if err != nil {
				return err
			}
			content, err := bound.ReadFile(args[0], maxSigned)
			if err != nil {
				return fmt.Errorf("sign a file: %w: name another one", err)
			}
			key, err := passphrase.loadKey(c.Context(), path)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(args[0]+".sig", key.Sign(content), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s.sig, by key %s\n", args[0], key.Public().ID())
			return err
		},
	}
	c.Flags().StringVar(&keyPath, "key", "", "private key (default: sov/key.pem in the user's configuration folder)")
	passphraseFlag(c, &passphrase)
	return c
}
