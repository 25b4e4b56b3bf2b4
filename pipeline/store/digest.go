package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// A Digest names content: "sha256:" and 64 lower-case hex digits.
type Digest string

const digestPrefix = "sha256:"

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

func digestOfHash(h hash.Hash) Digest {
	return Digest(digestPrefix + hex.EncodeToString(h.Sum(nil)))
}

// ParseDigest checks that s has the form of a Digest.
func ParseDigest(s string) (Digest, error) {
	d := Digest(s)
	if !strings.HasPrefix(s, digestPrefix) || !isHex64(s[len(digestPrefix):]) {
		return "", fmt.Errorf("%q is not a digest: want sha256: and 64 lower-case hex digits", s)
	}
	return d, nil
}

// Hex returns the 64 hex digits without "sha256:".
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Short returns the first 12 hex digits, for messages.
func (d Digest) Short() string { return ShortKey(d.Hex()) }

// ShortKey returns the first 12 digits of a key.
func ShortKey(hex string) string {
	if len(hex) > 12 {
		return hex[:12]
	}
	return hex
}

func isHex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// A Blob is content in a store.
type Blob struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"` // bytes
}

// An Output is a blob under the name its stage gave it.
type Output struct {
	Name string `json:"name"`
	Blob
}
