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

// keyBits is the modulus size of new keys, in bits: abuild-keygen's default
// up to 3.10, and what apk-tools of any age verifies quickly.
const keyBits = 2048

// A Key signs packages and indexes.
type Key struct {
	// Name is the file name that the public key has in /etc/apk/keys, such
	// as "builder@example.org-5f3c.rsa.pub". Signatures refer to it.
	Name string
	// SHA256 signs with RSA over SHA-256 (".SIGN.RSA256."), which apk-tools
	// knows since 2.11. Otherwise it is RSA over SHA-1 (".SIGN.RSA."), which
	// Alpine's own repositories use.
	SHA256 bool

	private *rsa.PrivateKey
}

// NewKey generates a key whose public half is to be installed under name.
func NewKey(name string) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("generate package signing key %s: %w", name, err)
	}
	return &Key{Name: name, private: private}, nil
}

// ParseKey reads a private key in PEM, PKCS #8 or PKCS #1.
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

// PrivatePEM is the private key in PEM (PKCS #8), as ParseKey reads it.
func (k *Key) PrivatePEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode package signing key %s: %w", k.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicPEM is the content of the file Name in /etc/apk/keys.
func (k *Key) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode public key %s: %w", k.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Public is the public key.
func (k *Key) Public() *rsa.PublicKey { return &k.private.PublicKey }

// sign returns the signature stream over the compressed bytes of the stream
// that follows it.
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
