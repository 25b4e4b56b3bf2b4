package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

const (
	recipientsName = "recipients.txt"
	identityName   = "identity.age"

	// ageHeader begins every binary age file (https://age-encryption.org/v1, "Header").
	ageHeader = "age-encryption.org/"
	// maxEncrypted bounds an encrypted secret, in bytes: room for a header with hundreds of recipients.
	maxEncrypted = guestspec.MaxSecret + 256<<10
	// maxKeys bounds a file of identities or recipients, in bytes.
	maxKeys = 256 << 10
)

// ErrLocked is wrapped by the errors of a secret that is encrypted and cannot be opened with the store's keys.
var ErrLocked = errors.New("it is encrypted")

func isEncrypted(content []byte) bool { return bytes.HasPrefix(content, []byte(ageHeader)) }

// EncryptIfWanted does what Encrypt does if it is wanted. An identity that Keys name without that, such as one of the
// environment, opens secrets, and begins the encryption of a store that does not encrypt yet.
func (s *Store) EncryptIfWanted(ctx context.Context, wanted bool) (int, error) {
	if !wanted && s.keys.Identity != "" {
		encrypts, err := s.Encrypts()
		if err != nil {
			return 0, err
		}
		wanted = !encrypts
	}
	if !wanted {
		return 0, nil
	}
	return s.Encrypt(ctx)
}

// Encrypts reports whether secrets that are set will be encrypted.
func (s *Store) Encrypts() (bool, error) {
	recipients, err := s.recipients()
	return len(recipients) > 0, err
}

// Encrypt sees to it that the store's secrets are encrypted, those that are there and those that will be set: to the
// identity of Keys, or else to one of the store's own, which is made on the first call and opened by a passphrase. It
// returns how many secrets, of all machines, were plain so far.
func (s *Store) Encrypt(ctx context.Context) (int, error) {
	known, err := s.recipients()
	switch {
	case err != nil:
	case len(known) == 0:
		err = s.beginEncryption(ctx)
	case s.keys.Identity != "":
		err = s.checkRecipient(ctx, known)
	default:
		if _, lacks := os.Lstat(s.file(identityName)); lacks != nil {
			err = fmt.Errorf("the secrets are encrypted already, to whom %s names, and not with a passphrase", s.file(recipientsName))
		}
	}
	if err != nil {
		return 0, err
	}
	return s.encryptPlain()
}

// beginEncryption writes down to whom secrets are encrypted from now on.
func (s *Store) beginEncryption(ctx context.Context) error {
	identities, err := s.unlock(ctx)
	if errors.Is(err, fs.ErrNotExist) && s.keys.Identity == "" {
		identities, err = s.makeIdentity(ctx)
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, identity := range identities {
		recipient, err := recipientOf(identity)
		if err != nil {
			return err
		}
		fmt.Fprintln(&text, recipient)
	}
	return s.write(s.file(recipientsName), []byte(text.String()))
}

// checkRecipient fails unless secrets are encrypted to the identity of Keys. What is encrypted to others cannot be
// encrypted anew without their keys.
func (s *Store) checkRecipient(ctx context.Context, known []age.Recipient) error {
	identities, err := s.unlock(ctx)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		recipient, err := recipientOf(identity)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(known, func(k age.Recipient) bool { return fmt.Sprint(k) == recipient }) {
			return fmt.Errorf("the secrets are encrypted to others already: add a line %q to %s and set each secret again", recipient, s.file(recipientsName))
		}
	}
	return nil
}

// recipientOf returns the public half of an identity in its text form.
func recipientOf(identity age.Identity) (string, error) {
	switch i := identity.(type) {
	case *age.X25519Identity:
		return i.Recipient().String(), nil
	case *age.HybridIdentity:
		return i.Recipient().String(), nil
	default:
		return "", fmt.Errorf("an identity of the kind %T does not tell its recipient", identity)
	}
}

// makeIdentity makes the store's own identity and keeps it under a new passphrase.
func (s *Store) makeIdentity(ctx context.Context) ([]age.Identity, error) {
	passphrase, err := s.ask(ctx, "new passphrase for the secrets", true)
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	if s.work > 0 {
		recipient.SetWorkFactor(s.work)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("# public key: %s\n%s\n", identity.Recipient(), identity)
	sealed, err := encrypt([]byte(text), recipient)
	if err != nil {
		return nil, err
	}
	s.identities = []age.Identity{identity}
	return s.identities, s.write(s.file(identityName), sealed)
}

// encryptPlain encrypts the secrets that are plain.
func (s *Store) encryptPlain() (int, error) {
	machines, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, err
	}
	changed := 0
	for _, machine := range machines {
		if !artifact.ValidName(machine.Name()) {
			continue
		}
		list, err := s.List(machine.Name())
		if err != nil {
			return changed, err
		}
		for _, info := range list {
			if info.Encrypted {
				continue
			}
			value, err := s.read(filepath.Join(s.dir, machine.Name(), info.Name), guestspec.MaxSecret)
			if err != nil {
				return changed, err
			}
			if err := s.Set(machine.Name(), info.Name, value); err != nil {
				return changed, err
			}
			changed++
		}
	}
	return changed, nil
}

// recipients are whom secrets are encrypted to; none where they are not encrypted.
func (s *Store) recipients() ([]age.Recipient, error) {
	text, err := s.read(s.file(recipientsName), maxKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	recipients, err := age.ParseRecipients(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file(recipientsName), err)
	}
	return recipients, nil
}

// unlock returns the identities of Keys, or the store's own. Its error matches fs.ErrNotExist where there is no such file.
func (s *Store) unlock(ctx context.Context) ([]age.Identity, error) {
	if s.identities != nil {
		return s.identities, nil
	}
	path := s.keys.Identity
	read := readIdentity
	if path == "" {
		path = s.file(identityName)
		read = func(path string) ([]byte, error) { return s.read(path, maxKeys) }
	}
	text, err := read(path)
	if err == nil && isEncrypted(text) {
		text, err = s.askAndDecrypt(ctx, text, path)
	}
	if errors.Is(err, fs.ErrNotExist) && s.keys.Identity != "" {
		return nil, fmt.Errorf("identity: %w: `age-keygen -o %s` makes one", err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	s.identities, err = age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		// The errors of age quote what they cannot read.
		return nil, fmt.Errorf("identity %s: it is not an age identity file: `age-keygen` makes one", path)
	}
	return s.identities, nil
}

// readIdentity reads an identity file of the user's. It may be a link, or a pipe from a program that knows it.
func readIdentity(path string) ([]byte, error) {
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
	return readAll(f, maxKeys)
}

func (s *Store) ask(ctx context.Context, what string, isNew bool) (string, error) {
	if s.keys.Ask == nil {
		return "", errors.New("not a terminal: the passphrase cannot be asked for")
	}
	return s.keys.Ask(ctx, what, isNew)
}

func (s *Store) askAndDecrypt(ctx context.Context, sealed []byte, path string) ([]byte, error) {
	passphrase, err := s.ask(ctx, "passphrase of "+path, false)
	if err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	text, err := decrypt(sealed, identity)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, errors.New("the passphrase is wrong")
	}
	return text, err
}

// decrypt opens a secret with the identities of the store.
func (s *Store) decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	identities, err := s.unlock(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.keys.Identity == "":
		return nil, fmt.Errorf("%w: give --identity FILE or set $SOV_IDENTITY", ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	value, err := decrypt(sealed, identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%w to another identity than this one", ErrLocked)
	}
	return value, err
}

func (s *Store) file(name string) string { return filepath.Join(s.dir, name) }

func encrypt(plain []byte, recipients ...age.Recipient) ([]byte, error) {
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

func decrypt(sealed []byte, identities ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r) // not longer than what it was opened from
}
