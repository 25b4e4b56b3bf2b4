package provenance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/finding"
)

// maxFile is the largest statement or envelope, in bytes. A statement has about a hundred KiB.
const maxFile = 16 << 20

// A Verdict is the result of checking an artifact's provenance.
type Verdict struct {
	SignedBy string  // ID of the key in the envelope; empty without an envelope
	Proven   bool    // the requested key has signed it and the signature is valid
	Signed   *Signed // the signed statement; nil without a valid envelope, or for one of an earlier version of sov
	Problems []finding.Finding
}

// Verify checks the provenance of the artifact in dir: the statement must list exactly the manifest
// and its files. With a key, the envelope must contain the same statement with a Release, signed by
// that key, and a missing statement or envelope is a problem. Without a key, missing ones are
// ignored. manifest.Verify checks the files themselves.
func Verify(dir string, key dsse.PublicKey) (*Verdict, error) {
	v := &Verdict{}
	text, err := readFile(dir, artifact.ProvenanceFile)
	if err != nil {
		return nil, err
	}
	if text == nil {
		if key != nil {
			v.found(artifact.ProvenanceFile, "is missing")
		}
		return v, nil
	}
	if err := v.statement(dir, text); err != nil {
		return nil, err
	}
	return v, v.envelope(dir, text, key)
}

func (v *Verdict) found(file, format string, args ...any) {
	v.Problems = append(v.Problems, finding.Fail(file, fmt.Sprintf(format, args...), ""))
}

func (v *Verdict) statement(dir string, text []byte) error {
	s, err := Decode(text)
	if err != nil {
		v.found(artifact.ProvenanceFile, "%v", err)
		return nil
	}
	m, err := manifest.Load(dir)
	if err != nil {
		return err
	}
	raw, err := readFile(dir, artifact.ManifestFile)
	if err != nil {
		return err
	}
	v.Problems = append(v.Problems, s.Check(append([]manifest.File{manifest.Describe(artifact.ManifestFile, raw)}, m.Files...))...)
	return nil
}

func (v *Verdict) envelope(dir string, text []byte, key dsse.PublicKey) error {
	file, err := readFile(dir, artifact.SignedFile)
	if err != nil {
		return err
	}
	if file == nil {
		if key != nil {
			v.found(artifact.SignedFile, "is missing: the artifact is not signed")
		}
		return nil
	}
	e, payload, err := dsse.Peek(PayloadType, file)
	if err == nil {
		v.SignedBy = e.Signatures[0].KeyID
		if key != nil {
			payload, err = dsse.Open(key, PayloadType, file)
		}
	}
	var signed *Signed
	if err == nil {
		signed, err = OpenSigned(file)
	}
	states := err == nil && signed.States(text)
	if errors.Is(err, ErrNoSerial) {
		states, err = bytes.Equal(payload, text), nil
	}
	switch {
	case err != nil:
		v.found(artifact.SignedFile, "%v", err)
	case !states:
		v.found(artifact.SignedFile, "is about another statement than %s", artifact.ProvenanceFile)
	default:
		v.Proven, v.Signed = key != nil, signed
	}
	return nil
}

// readFile returns nil for a file that does not exist.
func readFile(dir, name string) ([]byte, error) {
	b, err := bound.ReadFile(filepath.Join(dir, name), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read provenance: %w", err)
	}
	return b, nil
}

// Recipe returns the text of the recipe that the artifact in dir was built from. Artifacts of
// earlier versions do not have it.
func Recipe(dir string) ([]byte, error) {
	text, err := readFile(dir, artifact.ProvenanceFile)
	if err != nil {
		return nil, err
	}
	var recipe []byte
	if text != nil {
		s, err := Decode(text)
		if err != nil {
			return nil, err
		}
		recipe = s.Predicate.BuildDefinition.ExternalParameters.Recipe.Content
	}
	if recipe == nil {
		return nil, fmt.Errorf("%s has no recipe in its %s: build it again with this sov", dir, artifact.ProvenanceFile)
	}
	return recipe, nil
}

// Sign signs an artifact's statement and a release with key, and writes the envelope. It replaces
// an existing one, and reports whether the file changed. The caller must have just built the
// artifact, or have called manifest.Verify and Verify.
func Sign(dir string, key dsse.PrivateKey, r Release) (changed bool, err error) {
	text, err := readFile(dir, artifact.ProvenanceFile)
	if err == nil && text == nil {
		err = fmt.Errorf("%s has no %s: build it again with this sov", dir, artifact.ProvenanceFile)
	}
	if err != nil {
		return false, err
	}
	envelope, err := seal(text, key, r)
	if err != nil {
		return false, fmt.Errorf("sign %s: %w", dir, err)
	}
	if old, err := readFile(dir, artifact.SignedFile); err == nil && bytes.Equal(old, envelope) {
		return false, nil
	}
	if err := durable.WriteFile(filepath.Join(dir, artifact.SignedFile), envelope, 0o644); err != nil {
		return false, fmt.Errorf("sign %s: %w", dir, err)
	}
	return true, nil
}

// ReadSigned reads the envelope of an artifact, see OpenSigned. It returns nil without an error if
// the envelope does not exist or does not have a serial.
func ReadSigned(dir string) (*Signed, error) {
	file, err := readFile(dir, artifact.SignedFile)
	if file == nil || err != nil {
		return nil, err
	}
	signed, err := OpenSigned(file)
	if errors.Is(err, ErrNoSerial) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, artifact.SignedFile), err)
	}
	return signed, nil
}
