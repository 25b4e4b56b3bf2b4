package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/signing"
)

func newKey() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make keys to sign artifacts with: new, public",
		Long: `Make keys to sign artifacts with: Ed25519, in PEM files that openssl reads too. The private key signs (sov build --sign,
sov sign); whoever has the public one can check (sov verify --key, sov pull --key).`,
		Example: `  sov key new
  sov key public > sov.pub`,
	}
	c.AddCommand(newKeyNew(), newKeyPublic())
	return c
}

// keyFile is where a key is kept unless a file is named: the user's configuration folder, not a
// cache.
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

func newKeyNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new [FILE]",
		Short: "Make a key that nobody but you can read",
		Long: `Make a private key in FILE (default: sov/key.pem in the user's configuration folder), mode 0600. A file that is there
stays as it is.`,
		Example: "  sov key new\n  sov key new /media/stick/release.pem",
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
			key, err := signing.NewKey(path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s, key %s\nkeep it to yourself; `sov key public %[1]s` prints what others need to check your signatures\n", path, key.Public().ID())
			return err
		},
	}
}

func newKeyPublic() *cobra.Command {
	return &cobra.Command{
		Use:   "public [FILE]",
		Short: "Print the public key of a private one",
		Long: `Print the public key that belongs to the private one in FILE (default: sov/key.pem in the user's configuration folder),
in PEM.`,
		Example: "  sov key public > sov.pub\n  sov key public release.pem",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyFile(args)
			if err != nil {
				return err
			}
			key, err := dsse.LoadPrivate(path)
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
}
