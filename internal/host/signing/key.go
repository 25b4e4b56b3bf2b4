// Package signing makes key files and signs artifacts that are sound. Keys and envelopes are
// package dsse's, what a signature says is package provenance's.
package signing

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/durable"
)

// NewKey makes a key and writes it to a file that only its owner can read. It never replaces a
// file: there may be no other copy of the key in it.
func NewKey(path string) (dsse.PrivateKey, error) {
	key, err := dsse.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return key, writeKey(path, key)
}

func writeKey(path string, key dsse.PrivateKey) error {
	text, err := key.PEM()
	if err != nil {
		return err
	}
	err = durable.WriteFile(path, text, 0o600, durable.KeepExisting())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make key: %s exists and is not replaced: name another file", path)
	}
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	return nil
}
