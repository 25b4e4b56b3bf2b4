package dsse

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A PrivateKey signs. Never print it.
type PrivateKey ed25519.PrivateKey

// A PublicKey verifies.
type PublicKey ed25519.PublicKey

// Types of PEM blocks: RFC 7468, sections 10 and 13.
const (
	privateBlock = "PRIVATE KEY" // PKCS #8
	publicBlock  = "PUBLIC KEY"  // SubjectPublicKeyInfo, as PKIX has it
)

// NewKey makes a key from random bytes, such as crypto/rand.Reader's.
func NewKey(random io.Reader) (PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return PrivateKey(ed25519.NewKeyFromSeed(seed)), nil
}

// Public returns the public key.
func (k PrivateKey) Public() PublicKey {
	return PublicKey(ed25519.PrivateKey(k).Public().(ed25519.PublicKey))
}

// Sign returns the Ed25519 signature (RFC 8032) of a text, without an envelope.
func (k PrivateKey) Sign(text []byte) []byte { return ed25519.Sign(ed25519.PrivateKey(k), text) }

// PEM returns the content of the key's file: PKCS #8 in PEM, as for openssl.
func (k PrivateKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.PrivateKey(k))
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), nil
}

// PEM returns the key's file: SubjectPublicKeyInfo in PEM.
func (k PublicKey) PEM() ([]byte, error) {
	der, err := k.DER()
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der}), nil
}

// DER returns the key as SubjectPublicKeyInfo (RFC 5280, section 4.1).
func (k PublicKey) DER() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(k))
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return der, nil
}

// ID returns the key's ID: the SHA-256 of its SubjectPublicKeyInfo in hexadecimal, as `openssl pkey
// -pubin -outform DER | sha256sum` prints it.
func (k PublicKey) ID() string {
	der, err := k.DER()
	if err != nil {
		panic(err) // a PublicKey has 32 bytes
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// maxKeyFile is the largest key file, in bytes. Usual ones have about a hundred.
const maxKeyFile = 64 << 10

// LoadPrivate reads a private key's file. It is an error if other users can read the file. unseal
// decrypts a file that is encrypted with a passphrase; if unseal is nil, such a file is an error.
func LoadPrivate(path string, unseal Unseal) (PrivateKey, error) {
	b, mode, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read key: %w: `sov key new %s` makes one", err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if b, err = unseal.open(path, b); err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	k, err := ParsePrivate(b)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	if err := refuseOthers(path, mode); err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return k, nil
}

// LoadPublic reads a public key's file.
func LoadPublic(path string) (PublicKey, error) {
	b, _, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read public key: %w: `sov key public` prints that of a private key", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	k, err := ParsePublic(b)
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	return k, nil
}

func readKey(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return b, info.Mode(), err
}

// refuseOthers returns an error for a file that users other than its owner can read.
func refuseOthers(path string, mode fs.FileMode) error {
	if mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return fmt.Errorf("other users can read %s (mode %04o): run `chmod 600 %[1]s`, and make a new key if it has been so for long", path, mode.Perm())
	}
	return nil
}

// ParsePrivate reads the content of a private key's file.
func ParsePrivate(file []byte) (PrivateKey, error) {
	block, err := onlyBlock(file, privateBlock)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, err
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key: `sov key new` makes one")
	}
	return PrivateKey(k), nil
}

// ParsePublic reads the content of a public key's file.
func ParsePublic(file []byte) (PublicKey, error) {
	block, err := onlyBlock(file, publicBlock)
	if err != nil {
		return nil, err
	}
	return ParseDER(block)
}

// ParseDER reads a public key as DER writes it.
func ParseDER(der []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	k, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key")
	}
	return PublicKey(k), nil
}

// onlyBlock returns the content of the one PEM block of a file.
func onlyBlock(file []byte, want string) ([]byte, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return nil, errors.New("it is not a key in PEM: `sov key new` makes one")
	case block.Type == privateBlock && want == publicBlock:
		return nil, errors.New("it is a private key: use the public key, which `sov key public` prints")
	case block.Type == publicBlock && want == privateBlock:
		return nil, errors.New("it is a public key, which cannot sign: name the private one, which `sov key new` made")
	case block.Type != want:
		return nil, fmt.Errorf("it is a %.40q, not a %s", block.Type, want)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("it holds more than one key")
	}
	return block.Bytes, nil
}
