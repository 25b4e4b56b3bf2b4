package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/internal/host/signing"
)

// A passphraseFile is the value of --passphrase-file.
type passphraseFile string

// passphraseFlag adds --passphrase-file, for a command that opens a private key.
func passphraseFlag(c *cobra.Command, file *passphraseFile) {
	c.Flags().StringVar((*string)(file), "passphrase-file", "",
		"file with the passphrase of a private key, which only you can read; /dev/fd/N is an open file descriptor (default: $SOV_PASSPHRASE_FILE, else asked for at the terminal)")
}

// ask returns the source of passphrases: the file of the flag or setting, or a prompt.
func (p passphraseFile) ask() (agefile.Ask, error) {
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return nil, err
	}
	if file := s.Get(settings.Passphrase, string(p)).One(); file != "" {
		return agefile.PassphraseFrom(file), nil
	}
	return askHidden, nil
}

// unseal returns the function that decrypts private keys with a passphrase.
func (p passphraseFile) unseal(ctx context.Context) (dsse.Unseal, error) {
	ask, err := p.ask()
	return signing.Unseal(ctx, ask), err
}

// loadKey reads a private key.
func (p passphraseFile) loadKey(ctx context.Context, path string) (dsse.PrivateKey, error) {
	unseal, err := p.unseal(ctx)
	if err != nil {
		return nil, err
	}
	return dsse.LoadPrivate(path, unseal)
}
