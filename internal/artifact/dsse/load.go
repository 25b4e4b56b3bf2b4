package dsse

import (
	"encoding/pem"
	"errors"
	"fmt"
)

// Load reads the file of a private or a public key. private is nil for a public one.
func Load(path string) (private PrivateKey, public PublicKey, err error) {
	b, mode, err := readKey(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	if private, public, err = ParseEither(b); err != nil {
		return nil, nil, fmt.Errorf("read key %s: %w", path, err)
	}
	if private == nil {
		return nil, public, nil
	}
	if err := refuseOthers(path, mode); err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	return private, public, nil
}

// ParseEither reads the content of the file of a private or a public key.
func ParseEither(file []byte) (private PrivateKey, public PublicKey, err error) {
	block, _ := pem.Decode(file)
	switch {
	case block == nil:
		return nil, nil, errors.New("it is not in PEM")
	case block.Type == publicBlock:
		public, err = ParsePublic(file)
		return nil, public, err
	}
	if private, err = ParsePrivate(file); err != nil {
		return nil, nil, err
	}
	return private, private.Public(), nil
}
