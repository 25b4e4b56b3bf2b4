package kernel

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// signingKeys are the keys that sign releases of stable kernels: Greg Kroah-Hartman
// (647F28654894E3BD457199BE38DBBDC86092693E) and Sasha Levin
// (E27E5D8A3403A2EF66873BBCDEA66FF797772CDC), from debian/upstream/signing-key.asc in Debian's
// source package linux.
//
//go:embed signing-keys.asc
var signingKeys []byte

// ErrBadSignature matches the error for a release with a bad signature.
var ErrBadSignature = errors.New("its OpenPGP signature is not one of the kernel's maintainers; do not use it")

// verifySignature checks an armored detached signature of the content of plain. kernel.org signs
// the uncompressed tar.
func verifySignature(plain io.Reader, signature []byte) error {
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(signingKeys))
	if err != nil {
		return fmt.Errorf("read the kernel's signing keys: %w", err)
	}
	return verifyWith(keys, plain, signature)
}

func verifyWith(keys openpgp.EntityList, plain io.Reader, signature []byte) error {
	faults := &faultReader{r: plain}
	_, err := openpgp.CheckArmoredDetachedSignature(keys, faults, bytes.NewReader(signature), nil)
	switch {
	case faults.err != nil: // a read error, not a bad signature
		return faults.err
	case err != nil:
		return fmt.Errorf("%w (%w)", ErrBadSignature, err)
	}
	return nil
}

// A faultReader keeps its reader's error, except io.EOF.
type faultReader struct {
	r   io.Reader
	err error
}

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
