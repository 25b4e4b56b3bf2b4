package apkbuild

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // linked in for crypto.SHA1
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// keyBits is the modulus size of new keys, in bits: the default of abuild-keygen up to 3.10, which
// every apk-tools verifies quickly.
const keyBits = 2048

// A Key signs packages and indexes.
type Key struct {
	// Name is the file name of the public key in /etc/apk/keys, such as
	// "builder@example.org-5f3c.rsa.pub". Signatures refer to it.
	Name string
	// SHA256 selects RSA over SHA-256 (".SIGN.RSA256."), which apk-tools supports since 2.11. The
	// default is RSA over SHA-1 (".SIGN.RSA."), as in Alpine's repositories.
	SHA256 bool

	private *rsa.PrivateKey
}

// NewKey generates a key. name is the file name of the public key.
func NewKey(name string) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("generate package signing key %s: %w", name, err)
	}
	return &Key{Name: name, private: private}, nil
}

// ParseKey parses a private key in PEM, PKCS #8 or PKCS #1.
func ParseKey(name string, pemBytes []byte) (*Key, error) {
	block, _ := pem.Decode(pemBytes)
	if block == nil {
		return nil, fmt.Errorf("parse package signing key %s: no PEM block", name)
	}
	if private, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return &Key{Name: name, private: private}, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse package signing key %s: %w", name, err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse package signing key %s: it is not an RSA key", name)
	}
	return &Key{Name: name, private: private}, nil
}

// PrivatePEM returns the private key in PEM (PKCS #8), for ParseKey.
func (k *Key) PrivatePEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode package signing key %s: %w", k.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicPEM returns the public key in PEM, as in /etc/apk/keys.
func (k *Key) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode public key %s: %w", k.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Public returns the public key.
func (k *Key) Public() *rsa.PublicKey { return &k.private.PublicKey }

// sign returns the signature stream for the compressed bytes of the following stream.
func (k *Key) sign(signed []byte) ([]byte, error) {
	if k.Name == "" {
		return nil, errors.New("sign: the key has no name")
	}
	hash, prefix := crypto.SHA1, ".SIGN.RSA."
	if k.SHA256 {
		hash, prefix = crypto.SHA256, ".SIGN.RSA256."
	}
	h := hash.New()
	h.Write(signed)
	signature, err := rsa.SignPKCS1v15(nil, k.private, hash, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Name, err)
	}
	return memberStream([]member{{prefix + k.Name, 0o644, signature}}, epoch, cut)
}
