package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/pipeline"
)

func newSign() *cobra.Command {
	var keyPath, reference string
	var serial int64
	var passphrase passphraseFile
	var allowCache bool
	c := &cobra.Command{
		Use:   "sign DIR",
		Short: "Sign a built machine",
		Long: `Sign a built machine. sov first compares its files with its manifest and its provenance. Then it
writes the signed provenance to ` + artifact.SignedFile + ` and replaces an older signature. No
other file changes. The same key, serial and artifact give the same signature.

The signed statement also contains the machine's name, a serial that increases with each version
and, with --reference, the reference in a registry for which the version is signed. The serial is
one more than the highest one of this machine and key in serials.json, in sov's state folder. An
artifact that the key has already signed keeps its serial. In CI, where the state folder is not
kept, set --serial, for example to the number of the run.

A machine is refused if it contains unsigned results of remote caches (taken.json lists them);
--allow-unsigned-cache accepts them.`,
		Example: `  sov sign out/sql/arm64
  sov sign out/sql/arm64 --key release.pem --serial 17
  printf '%s' "$SIGNING_KEY" | sov sign out/sql/arm64 --key /dev/stdin --serial "$RUN_NUMBER"`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := keyOption(keyPath)
			if err != nil {
				return err
			}
			signer, err := newSigner(c.Context(), path, passphrase, serial)
			if err != nil {
				return err
			}
			if reference != "" {
				ref, err := registryReference(reference)
				if err != nil {
					return err
				}
				signer.For(ref)
			}
			if err := refuseUnsigned(allowCache, args[0]); err != nil {
				return err
			}
			err = working(c, "check the artifact", func(ctx context.Context, _ *pipeline.Task) error {
				return signing.Check(ctx, args[0])
			})
			if errors.As(err, new(*signing.UnsoundError)) {
				return foundf("%v", err)
			}
			if err != nil {
				return err
			}
			serial, changed, err := signer.Sign(c.Context(), args[0])
			if err != nil {
				return err
			}
			verb := "signed"
			if !changed {
				verb = "was signed already:"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s with key %.16s…, serial %d\n", verb, args[0], signer.Key.Public().ID(), serial)
			return err
		},
	}
	allowUnsignedFlag(c, &allowCache)
	c.Flags().StringVar(&keyPath, "key", "", "private key (default: sov/key.pem in the user's configuration folder)")
	c.Flags().StringVar(&reference, "reference", "", "the reference under which the version will be published, HOST/REPOSITORY:TAG")
	passphraseFlag(c, &passphrase)
	serialFlag(c, &serial)
	return c
}

// serialFlag adds --serial.
func serialFlag(c *cobra.Command, serial *int64) {
	c.Flags().Int64Var(serial, "serial", 0, "the version's serial (default: one more than the highest known serial)")
}

// newSigner returns a signer with a private key. If serial is 0, the signer selects one.
func newSigner(ctx context.Context, keyPath string, passphrase passphraseFile, serial int64) (*signing.Signer, error) {
	if serial < 0 || serial > provenance.MaxSerial {
		return nil, usagef("--serial %d: must be between 1 and %d", serial, int64(provenance.MaxSerial))
	}
	key, err := passphrase.loadKey(ctx, keyPath)
	if err != nil {
		return nil, err
	}
	memory, err := serialMemory()
	return &signing.Signer{Key: key, Serials: memory, Serial: serial}, err
}

// serialMemory returns this computer's record of the serials of signed versions.
func serialMemory() (serials.Memory, error) {
	dir, err := folders.State(os.Getenv)
	return serials.At(filepath.Join(dir, "serials.json")), err
}
