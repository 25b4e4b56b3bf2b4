package apk

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Keys holds the public keys that may sign indexes and packages, by their file name in
// /etc/apk/keys, as in "alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub". Signatures name the
// key by that name.
type Keys map[string]*rsa.PublicKey

// ParseKey reads a public key in the form of the files in /etc/apk/keys: PEM, PKIX.
func ParseKey(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("no PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	rsaKey, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("is a %T, not an RSA key", key)
	}
	return rsaKey, nil
}
