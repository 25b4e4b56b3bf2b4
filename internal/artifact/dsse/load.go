package dsse

import (
	"encoding/pem"
	"errors"
	"fmt"
)

// Unseal decrypts a private key's file that is encrypted with a passphrase, an armored age file.
// name is the file's name.
type Unseal func(name string, sealed []byte) ([]byte, error)

// sealedBlock is the type of the PEM block of such a file (https://age-encryption.org/v1, "ASCII
// armor").
const sealedBlock = "AGE ENCRYPTED FILE"

// open returns the content of a key's file, decrypted if necessary. A nil Unseal refuses encrypted
// files.
func (u Unseal) open(name string, file []byte) ([]byte, error) {
	if block, _ := pem.Decode(file); block == nil || block.Type != sealedBlock {
		return file, nil
	}
	if u == nil {
		return nil, errors.New("it is encrypted with a passphrase, which cannot be asked for here")
	}
	return u(name, file)
}

// Load reads the file of a private or a public key. private is nil for a public one.
func Load(path string, unseal Unseal) (private PrivateKey, public PublicKey, err error) {
	b, mode, err := readKey(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	if private, public, err = ParseEither(path, b, unseal); err != nil {
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

// ParseEither reads the content of the file of a private or a public key; name is the file's.
func ParseEither(name string, file []byte, unseal Unseal) (private PrivateKey, public PublicKey, err error) {
	if file, err = unseal.open(name, file); err != nil {
		return nil, nil, err
	}
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
