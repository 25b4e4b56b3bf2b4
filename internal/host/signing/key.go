// Package signing makes key files, and checks and signs artifacts. Package dsse has keys and
// envelopes, package provenance the signed statement.
package signing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

// NewKey makes a key and writes it to a file that only its owner can read. It never replaces a
// file, which may have the only copy of a key. With a nil seal the key is not encrypted.
func NewKey(path string, seal Seal) (dsse.PrivateKey, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, errExists(path) // before the prompt for a passphrase
	}
	key, err := dsse.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := encode(path, key, seal)
	if err != nil {
		return nil, err
	}
	return key, writeNew(path, text)
}

// ChangePassphrase encrypts the key of a file with seal or, if that is nil, decrypts it. The file
// is replaced atomically.
func ChangePassphrase(path string, unseal dsse.Unseal, seal Seal) (dsse.PrivateKey, error) {
	key, err := dsse.LoadPrivate(path, unseal)
	if err != nil {
		return nil, err
	}
	text, err := encode(path, key, seal)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil { // replace the file, not a link to it
		return nil, err
	}
	return key, durable.WriteFile(path, text, 0o600)
}

// A Seal encrypts the content of a private key's file with that name. dsse.Unseal decrypts it.
type Seal func(name string, plain []byte) ([]byte, error)

// WithPassphrase returns a Seal that encrypts with a passphrase from ask, to an age file in text
// form. work is the work factor of the passphrase, see agefile.Seal.
func WithPassphrase(ctx context.Context, ask agefile.Ask, work int) Seal {
	return func(name string, plain []byte) ([]byte, error) {
		sealed, err := agefile.Seal(ctx, plain, "new passphrase of "+name, ask, work)
		if err != nil {
			return nil, err
		}
		return agefile.Armor(sealed)
	}
}

// Unseal returns a function that decrypts the file of a private key with a passphrase from ask.
func Unseal(ctx context.Context, ask agefile.Ask) dsse.Unseal {
	return func(name string, sealed []byte) ([]byte, error) { return agefile.Unseal(ctx, name, sealed, ask) }
}

func encode(path string, key dsse.PrivateKey, seal Seal) ([]byte, error) {
	text, err := key.PEM()
	if err != nil || seal == nil {
		return text, err
	}
	return seal(path, text)
}

func errExists(path string) error {
	return fmt.Errorf("make key: %s exists and is not replaced: name another file", path)
}

func writeNew(path string, text []byte) error {
	err := durable.WriteFile(path, text, 0o600, durable.KeepExisting())
	if errors.Is(err, fs.ErrExist) {
		return errExists(path)
	}
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	return nil
}
