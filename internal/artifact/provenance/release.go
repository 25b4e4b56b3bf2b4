package provenance

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
)

// A Release is added by the signer: the machine's name, the reference for publishing, and the
// serial among all versions that this key signs. Only the signed statement has it, so the
// artifact's bytes do not depend on the signer.
type Release struct {
	Name      string `json:"name"`                // the machine's
	Reference string `json:"reference,omitempty"` // HOST/REPOSITORY:TAG; empty: it is not meant for a registry
	Serial    int64  `json:"serial"`              // 1 to MaxSerial; a later version has a higher one
	Key       []byte `json:"key"`                 // the signer's public key: SubjectPublicKeyInfo, in DER
}

// MaxSerial is the largest serial: all JSON implementations can represent numbers up to it (RFC
// 8259, section 6).
const MaxSerial = 1<<53 - 1

// ErrNoSerial matches the error for a signature without a Release, from sov before version 2 of its
// signatures.
var ErrNoSerial = errors.New("the signature has no serial: an earlier sov made it")

// Signed is the content of an envelope with a valid signature. The caller decides whether to trust
// the key.
type Signed struct {
	Release
	By      dsse.PublicKey
	Payload []byte // the signed statement
	File    []byte // the envelope
	bare    []byte // the statement without its Release: provenance.json
	files   map[string]string
}

// OpenSigned decodes an envelope and verifies its signature with the key in its Release. The error
// wraps ErrNoSerial if there is no Release, and dsse.ErrRefused if the signature is wrong.
func OpenSigned(file []byte) (*Signed, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", artifact.SignedFile, len(file), maxFile)
	}
	_, payload, err := dsse.Peek(PayloadType, file)
	if err != nil {
		return nil, err
	}
	s, err := Decode(payload)
	if err != nil {
		return nil, err
	}
	r := s.Predicate.Release
	if r == nil {
		return nil, ErrNoSerial
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	key, err := dsse.ParseDER(r.Key)
	if err != nil {
		return nil, fmt.Errorf("the key in the signed statement: %w", err)
	}
	if _, err := dsse.Open(key, PayloadType, file); err != nil {
		return nil, err
	}
	signed := &Signed{Release: *r, By: key, Payload: payload, File: file, files: map[string]string{}}
	for _, f := range s.Subject {
		signed.files[f.Name] = f.Digest["sha256"]
	}
	s.Predicate.Release = nil
	signed.bare, err = s.Encode()
	return signed, err
}

func (r *Release) validate() error {
	if err := artifact.CheckName(r.Name); err != nil {
		return fmt.Errorf("the signed statement: %w", err)
	}
	if r.Serial < 1 || r.Serial > MaxSerial {
		return fmt.Errorf("the serial %d must be between 1 and %d", r.Serial, int64(MaxSerial))
	}
	return nil
}

// IsOf reports whether the statement is about the machine and the artifact whose manifest.json has
// the given SHA-256 (hexadecimal).
func (s *Signed) IsOf(machine, manifestSHA256 string) bool {
	return s.Name == machine && s.files[artifact.ManifestFile] == manifestSHA256
}

// States reports whether the statement without its Release equals this provenance.json.
func (s *Signed) States(text []byte) bool { return bytes.Equal(s.bare, text) }

// seal returns the envelope of a statement with a release.
func seal(text []byte, key dsse.PrivateKey, r Release) ([]byte, error) {
	var err error
	if r.Key, err = key.Public().DER(); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	s, err := Decode(text)
	if err != nil {
		return nil, err
	}
	if bare, err := s.Encode(); err != nil || !bytes.Equal(bare, text) || s.Predicate.Release != nil {
		return nil, fmt.Errorf("%s was written by another version of sov: build it again with this one", artifact.ProvenanceFile)
	}
	s.Predicate.Release = &r
	payload, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return dsse.Seal(key, PayloadType, payload)
}
