package offline

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/durable"
)

// PayloadType is the type of the signed payload: the text of sov-bundle.json, which has the SHA-256
// of everything else in a bundle.
const PayloadType = "application/vnd.sov.bundle.v1+json"

// SignatureOf returns the name of a bundle's signature file, a DSSE envelope in the same folder.
func SignatureOf(bundle string) string { return bundle + ".dsse.json" }

// Sign signs the bundle in a file. The same key and bundle give the same signature.
func Sign(name string, key dsse.PrivateKey) error {
	b, err := Open(name)
	if err != nil {
		return err
	}
	defer b.Close()
	envelope, err := dsse.Seal(key, PayloadType, b.text)
	if err == nil {
		err = durable.WriteFile(SignatureOf(name), envelope, 0o644)
	}
	if err != nil {
		return fmt.Errorf("sign bundle %s: %w", name, err)
	}
	return nil
}

// OpenSigned opens a bundle with a signature by key. If key is nil, no signature is required.
// Everything read afterwards matches the signature, even if the file changes. The error for a
// missing or wrong signature wraps dsse.ErrRefused.
func OpenSigned(name string, key dsse.PublicKey) (*Bundle, error) {
	b, err := Open(name)
	if err != nil || key == nil {
		return b, err
	}
	if err := b.verify(SignatureOf(name), key); err != nil {
		b.Close()
		return nil, fmt.Errorf("open bundle %s: %w", name, err)
	}
	return b, nil
}

func (b *Bundle) verify(signature string, key dsse.PublicKey) error {
	envelope, err := bound.ReadFile(signature, 2*maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s beside it", dsse.ErrRefused, signature)
	}
	if err != nil {
		return err
	}
	text, err := dsse.Open(key, PayloadType, envelope)
	if err == nil && !bytes.Equal(text, b.text) {
		err = fmt.Errorf("%w: it is of another bundle", dsse.ErrRefused)
	}
	return err
}
