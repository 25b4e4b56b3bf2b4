package apk

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Checksum identifies a package or a file in apk's notation: "Q1" and the base64 of a SHA-1, or
// "Q2" and the base64 of a SHA-256. A package's checksum is that of its control member, as
// compressed. The empty string is no checksum.
type Checksum string

const (
	sha1Prefix   = "Q1"
	sha256Prefix = "Q2"
)

// ParseChecksum checks that s is a checksum of known kind and length.
func ParseChecksum(s string) (Checksum, error) {
	if _, err := Checksum(s).sum(); err != nil {
		return "", err
	}
	return Checksum(s), nil
}

// SHA1Checksum returns the "Q1" checksum of a SHA-1 sum.
func SHA1Checksum(sum [sha1.Size]byte) Checksum {
	return Checksum(sha1Prefix + base64.StdEncoding.EncodeToString(sum[:]))
}

// SHA256Checksum returns the "Q2" checksum of a SHA-256 sum.
func SHA256Checksum(sum [sha256.Size]byte) Checksum {
	return Checksum(sha256Prefix + base64.StdEncoding.EncodeToString(sum[:]))
}

// matches reports whether c is the checksum of the bytes whose sums are given. An empty or
// malformed checksum matches nothing.
func (c Checksum) matches(s1 [sha1.Size]byte, s256 [sha256.Size]byte) bool {
	return c != "" && (c == SHA1Checksum(s1) || c == SHA256Checksum(s256))
}

// sum returns the binary digest.
func (c Checksum) sum() ([]byte, error) {
	var size int
	switch {
	case strings.HasPrefix(string(c), sha1Prefix):
		size = sha1.Size
	case strings.HasPrefix(string(c), sha256Prefix):
		size = sha256.Size
	default:
		return nil, fmt.Errorf("checksum %q is neither Q1 (SHA-1) nor Q2 (SHA-256)", string(c))
	}
	b, err := base64.StdEncoding.Strict().DecodeString(string(c[2:]))
	if err != nil {
		return nil, fmt.Errorf("checksum %q: %w", string(c), err)
	}
	if len(b) != size {
		return nil, fmt.Errorf("checksum %q holds %d bytes, not %d", string(c), len(b), size)
	}
	return b, nil
}

// fileChecksum turns the hexadecimal SHA-1 of a data tar's APK-TOOLS.checksum.SHA1 record into a
// Checksum.
func fileChecksum(hexSHA1 string) (Checksum, error) {
	b, err := hex.DecodeString(hexSHA1)
	if err != nil {
		return "", fmt.Errorf("file checksum %q: %w", hexSHA1, err)
	}
	if len(b) != sha1.Size {
		return "", fmt.Errorf("file checksum %q holds %d bytes, not %d", hexSHA1, len(b), sha1.Size)
	}
	return SHA1Checksum([sha1.Size]byte(b)), nil
}
