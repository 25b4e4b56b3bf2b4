package apk

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1"   // the hash of most of Alpine's signatures
	_ "crypto/sha256" // that of the newer ones
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/bound"
)

// maxSignatureMember is the largest decompressed signature member: a tar with a few files of 256 or
// 512 bytes.
const maxSignatureMember = 1 << 20

var signatureLimit = bound.Limit{Bytes: maxSignatureMember, Free: maxSignatureMember}

// signaturePrefix is the prefix of the names of the files in a signature member.
const signaturePrefix = ".SIGN."

// ErrUntrusted matches the error for an index or package without a signature by a trusted key. A
// wrong signature by a trusted key is another error.
var ErrUntrusted = errors.New("no trusted key has signed it")

// A signature is a file of a signature member: ".SIGN.RSA256.KEY" holds the PKCS #1 v1.5 signature,
// by the key of that name, of the SHA-256 of the rest of the file.
type signature struct {
	scheme string // "RSA256"
	key    string // file name of the public key
	bytes  []byte
}

// signatureHash names the hash of each signature scheme.
var signatureHash = map[string]crypto.Hash{
	"RSA":    crypto.SHA1,
	"RSA256": crypto.SHA256,
	"RSA512": crypto.SHA512,
}

// parseSignatures reads a signature member. It returns nil if the member is something else.
func parseSignatures(content []byte) ([]signature, error) {
	var found []signature
	tr := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("signature member: %w", err)
		}
		rest, ok := strings.CutPrefix(h.Name, signaturePrefix)
		if !ok {
			if found == nil {
				return nil, nil
			}
			return nil, fmt.Errorf("signature member: unexpected entry %q", h.Name)
		}
		scheme, key, ok := strings.Cut(rest, ".")
		if !ok || h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("signature member: entry %q is not a signature", h.Name)
		}
		data, err := io.ReadAll(io.LimitReader(tr, maxSignatureMember))
		if err != nil {
			return nil, fmt.Errorf("signature member: %s: %w", h.Name, err)
		}
		found = append(found, signature{scheme: scheme, key: key, bytes: data})
	}
}

// verifySignatures checks the bytes of signed against the first signature by a known key and
// returns the key's name.
func verifySignatures(sigs []signature, keys Keys, signed io.Reader) (string, error) {
	if len(sigs) == 0 {
		return "", fmt.Errorf("is not signed: %w", ErrUntrusted)
	}
	for _, s := range sigs {
		key, hash := keys[s.key], signatureHash[s.scheme]
		if key == nil || hash == 0 {
			continue
		}
		h := hash.New()
		if _, err := io.Copy(h, signed); err != nil {
			return "", err
		}
		if err := rsa.VerifyPKCS1v15(key, hash, h.Sum(nil), s.bytes); err != nil {
			return "", fmt.Errorf("has a wrong signature by %s: the file was damaged or tampered with", s.key)
		}
		return s.key, nil
	}
	return "", fmt.Errorf("is signed by %s, which is not among the trusted keys (%s): %w", signers(sigs), keyNames(keys), ErrUntrusted)
}

func signers(sigs []signature) string {
	names := make([]string, len(sigs))
	for i, s := range sigs {
		names[i] = s.key + " (" + s.scheme + ")"
	}
	return strings.Join(names, ", ")
}

func keyNames(keys Keys) string {
	if len(keys) == 0 {
		return "there are none"
	}
	return strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
}
