package cluster

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	// scramIterations is PostgreSQL's default (scram_iterations) and the minimum of RFC 7677.
	scramIterations = 4096
	// maxIterations limits the work for a stored verifier to seconds.
	maxIterations = 1 << 22
	saltSize      = 16 // PostgreSQL's
)

// A verifier is a server's stored form of a password for SCRAM-SHA-256 (RFC 5802, section 3), in
// the format of pg_authid.rolpassword.
type verifier struct {
	iterations           int
	salt                 []byte
	storedKey, serverKey []byte
}

// newVerifier computes the verifier of a password.
func newVerifier(password string, salt []byte, iterations int) (verifier, error) {
	salted, err := pbkdf2.Key(sha256.New, saslPrep(password), salt, iterations, sha256.Size)
	if err != nil {
		return verifier{}, fmt.Errorf("compute a SCRAM verifier: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return verifier{iterations, salt, stored[:], mac(salted, "Server Key")}, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// String returns v in PostgreSQL's format.
func (v verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.iterations, b64(v.salt), b64(v.storedKey), b64(v.serverKey))
}

// parseVerifier parses the format of String.
func parseVerifier(s string) (verifier, bool) {
	rest, ok := strings.CutPrefix(s, "SCRAM-SHA-256$")
	fields := strings.FieldsFunc(rest, func(r rune) bool { return r == ':' || r == '$' })
	if !ok || len(fields) != 4 {
		return verifier{}, false
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil || n < 1 || n > maxIterations {
		return verifier{}, false
	}
	v := verifier{iterations: n}
	for i, to := range []*[]byte{&v.salt, &v.storedKey, &v.serverKey} {
		if *to, err = base64.StdEncoding.DecodeString(fields[i+1]); err != nil {
			return verifier{}, false
		}
	}
	return v, true
}

// matches reports whether stored, a role's rolpassword, is a SCRAM verifier of password.
func matches(stored, password string) bool {
	v, ok := parseVerifier(stored)
	if !ok {
		return false
	}
	want, err := newVerifier(password, v.salt, v.iterations)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(v.storedKey, want.storedKey) == 1 &&
		subtle.ConstantTimeCompare(v.serverKey, want.serverKey) == 1
}
