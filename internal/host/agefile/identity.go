package agefile

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Identities reads an identity file of the user's: of age, or an SSH private key. It prompts for a
// passphrase if the file or the key needs one.
func Identities(ctx context.Context, path string, ask Ask) ([]age.Identity, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	return ParseIdentities(ctx, path, text, ask)
}

// ParseIdentities reads the content of an identity file.
func ParseIdentities(ctx context.Context, path string, text []byte, ask Ask) ([]age.Identity, error) {
	if Is(text) || IsArmored(text) {
		var err error
		if text, err = Unseal(ctx, path, text, ask); err != nil {
			return nil, err
		}
	}
	if block, _ := pem.Decode(text); block != nil {
		return sshIdentity(ctx, path, text, ask)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // the errors of age quote what they cannot read
		return nil, errors.New("it is not an age identity file or an SSH private key: `age-keygen` makes one")
	}
	return identities, nil
}

// An sshKey is an identity that knows its public key.
type sshKey struct {
	age.Identity
	public ssh.PublicKey
	locked *error // the error of its passphrase; nil if it does not have one
}

// An IdentityError is the error of opening an identity file that is needed to decrypt a file.
type IdentityError struct{ err error }

func (e *IdentityError) Error() string { return e.err.Error() }
func (e *IdentityError) Unwrap() error { return e.err }

// Unwrap implements age.Identity.
func (k sshKey) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := k.Identity.Unwrap(stanzas)
	if err != nil && k.locked != nil && *k.locked != nil {
		return nil, &IdentityError{*k.locked}
	}
	return key, err
}

func sshIdentity(ctx context.Context, path string, text []byte, ask Ask) ([]age.Identity, error) {
	signer, err := ssh.ParsePrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		if missing.PublicKey == nil {
			return nil, fmt.Errorf("its form does not tell its public key: `ssh-keygen -p -f %s` writes it in OpenSSH's", path)
		}
		var locked error
		identity, err := agessh.NewEncryptedSSHIdentity(missing.PublicKey, text, func() (passphrase []byte, err error) {
			passphrase, locked = sshPassphrase(ctx, path, text, ask)
			return passphrase, locked
		})
		if err != nil {
			return nil, errNotSSH
		}
		return []age.Identity{sshKey{identity, missing.PublicKey, &locked}}, nil
	}
	if err != nil {
		return nil, errNotSSH
	}
	identity, err := agessh.ParseIdentity(text)
	if err != nil {
		return nil, errNotSSH
	}
	return []age.Identity{sshKey{identity, signer.PublicKey(), nil}}, nil
}

var errNotSSH = errors.New("it is not an SSH key that age can use: it must be of the kind ed25519 or rsa")

// sshPassphrase prompts for the passphrase and checks it: age's error does not distinguish a wrong
// one from a broken file.
func sshPassphrase(ctx context.Context, path string, text []byte, ask Ask) ([]byte, error) {
	passphrase, err := ask.ask(ctx, "passphrase of "+path, false)
	if err != nil {
		return nil, err
	}
	if _, err := ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase)); errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	return []byte(passphrase), nil
}

// RecipientOf returns the public half of an identity in its text form.
func RecipientOf(identity age.Identity) (string, error) {
	switch i := identity.(type) {
	case *age.X25519Identity:
		return i.Recipient().String(), nil
	case *age.HybridIdentity:
		return i.Recipient().String(), nil
	case sshKey:
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(i.public))), nil
	default:
		return "", fmt.Errorf("an identity of the kind %T does not tell its recipient", identity)
	}
}
