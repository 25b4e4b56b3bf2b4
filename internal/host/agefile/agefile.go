// Package agefile reads age recipients and identities, and files that are encrypted with a
// passphrase (https://age-encryption.org/v1). Recipients are age1…, age1pq1… and SSH keys of the
// types ssh-ed25519 and ssh-rsa; identities are their private keys, in files that a passphrase may
// protect. Plugins of age are not supported.
//
// Errors of this package never contain a byte of an identity or of encrypted content.
package agefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/sovereign-sql/sov/internal/bound"
)

const (
	// Header begins every binary age file (https://age-encryption.org/v1, "Header").
	Header = "age-encryption.org/"
	// MaxKeys is the largest file of identities or recipients, in bytes.
	MaxKeys = 256 << 10
)

// An Ask prompts the user for a passphrase, twice if it is a new one; what names its purpose.
type Ask func(ctx context.Context, what string, isNew bool) (string, error)

// ErrPassphrase is the error of a passphrase that does not open a file.
var ErrPassphrase = errors.New("the passphrase is wrong")

// Is reports whether content begins as a binary age file does.
func Is(content []byte) bool { return bytes.HasPrefix(content, []byte(Header)) }

// IsArmored reports whether content begins as an age file in text form does.
func IsArmored(content []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(content), []byte(armor.Header))
}

// ReadPrivate reads a file that only its owner may read: an identity, or a passphrase. It may be a
// link, or a pipe from a program that knows its content.
func ReadPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("other users can read it (mode %#o): run `chmod go= %s`", info.Mode().Perm(), path)
	}
	return bound.ReadAll(f, MaxKeys)
}

// PassphraseFrom returns an Ask that reads the passphrase from a file, whose first line it is. The
// file is read once: it may be a pipe, such as /dev/fd/3.
func PassphraseFrom(path string) Ask {
	var passphrase string
	return func(context.Context, string, bool) (string, error) {
		if passphrase != "" {
			return passphrase, nil
		}
		text, err := ReadPrivate(path)
		if err != nil {
			return "", fmt.Errorf("read the passphrase from %s: %w", path, err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		passphrase = strings.TrimSuffix(line, "\r")
		if passphrase == "" {
			return "", fmt.Errorf("read the passphrase from %s: its first line is empty", path)
		}
		return passphrase, nil
	}
}

func (ask Ask) ask(ctx context.Context, what string, isNew bool) (string, error) {
	if ask == nil {
		return "", errors.New("not a terminal: the passphrase cannot be asked for")
	}
	return ask(ctx, what, isNew)
}

// Encrypt encrypts a short text.
func Encrypt(plain []byte, recipients ...age.Recipient) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// Decrypt opens what Encrypt made.
func Decrypt(sealed []byte, identities ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r) // not longer than the encrypted text
}

// Armor returns a binary age file in text form.
func Armor(sealed []byte) ([]byte, error) {
	var text bytes.Buffer
	w := armor.NewWriter(&text)
	if _, err := w.Write(sealed); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// Seal asks for a new passphrase and encrypts a short text with it. work is the cost of the
// passphrase, log2 of scrypt's N; 0: age's default, about a second.
func Seal(ctx context.Context, plain []byte, what string, ask Ask, work int) ([]byte, error) {
	passphrase, err := ask.ask(ctx, what, true)
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	if work > 0 {
		recipient.SetWorkFactor(work)
	}
	return Encrypt(plain, recipient)
}

// Unseal asks for the passphrase of an age file, binary or in text form, and opens it; name is
// shown in the question.
func Unseal(ctx context.Context, name string, sealed []byte, ask Ask) ([]byte, error) {
	if IsArmored(sealed) {
		binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(sealed)))
		if err != nil {
			return nil, errors.New("it is not a whole age file")
		}
		sealed = binary
	}
	passphrase, err := ask.ask(ctx, "passphrase of "+name, false)
	if err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	text, err := Decrypt(sealed, identity)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, ErrPassphrase
	}
	return text, err
}
