package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

const (
	recipientsName = "recipients.txt"
	identityName   = "identity.age"

	// maxEncrypted bounds an encrypted secret, in bytes. It allows for a header with hundreds of
	// recipients.
	maxEncrypted = guestspec.MaxSecret + 256<<10
)

// ErrLocked is wrapped by the errors of an encrypted secret that cannot be decrypted with the
// store's keys.
var ErrLocked = errors.New("it is encrypted")

// EncryptIfWanted calls Encrypt if wanted is set, or if Keys name an identity, for example in the
// environment, and the store does not encrypt yet.
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

// Encrypts reports whether new secrets are encrypted.
func (s *Store) Encrypts() (bool, error) {
	recipients, err := s.recipients()
	return len(recipients) > 0, err
}

// Encrypt encrypts the store's plain secrets and makes it encrypt new ones: to the identity of
// Keys, or else to the store's own, which is made on the first call and protected by a passphrase.
// It returns how many secrets, of all machines, it encrypted.
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

// beginEncryption writes the recipients to which secrets are encrypted from now on.
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
		recipient, err := agefile.RecipientOf(identity)
		if err != nil {
			return err
		}
		fmt.Fprintln(&text, recipient)
	}
	return s.write(s.file(recipientsName), []byte(text.String()))
}

// checkRecipient fails unless secrets are encrypted to the identity of Keys. Secrets encrypted to
// others cannot be re-encrypted without their keys.
func (s *Store) checkRecipient(ctx context.Context, known []agefile.Recipient) error {
	identities, err := s.unlock(ctx)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		recipient, err := agefile.RecipientOf(identity)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(known, func(k agefile.Recipient) bool { return k.Text == recipient }) {
			return fmt.Errorf("the secrets are encrypted to others already: add a line %q to %s and set each secret again", recipient, s.file(recipientsName))
		}
	}
	return nil
}

// makeIdentity makes the store's own identity and stores it encrypted with a new passphrase.
func (s *Store) makeIdentity(ctx context.Context) ([]age.Identity, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("# public key: %s\n%s\n", identity.Recipient(), identity)
	sealed, err := agefile.Seal(ctx, []byte(text), "new passphrase for the secrets", s.keys.Ask, s.work)
	if err != nil {
		return nil, err
	}
	s.identities = []age.Identity{identity}
	return s.identities, s.write(s.file(identityName), sealed)
}

// encryptPlain encrypts all plain secrets.
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

// recipients returns the recipients to which secrets are encrypted; none if they are plain.
func (s *Store) recipients() ([]agefile.Recipient, error) {
	text, err := s.read(s.file(recipientsName), agefile.MaxKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	recipients, err := agefile.ParseRecipients(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file(recipientsName), err)
	}
	return recipients, nil
}

// unlock returns the identities of Keys, or the store's own. Its error matches fs.ErrNotExist if
// there is no such file.
func (s *Store) unlock(ctx context.Context) ([]age.Identity, error) {
	if s.identities != nil {
		return s.identities, nil
	}
	path := s.keys.Identity
	read := agefile.ReadPrivate
	if path == "" {
		path = s.file(identityName)
		read = func(path string) ([]byte, error) { return s.read(path, agefile.MaxKeys) }
	}
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) && s.keys.Identity != "" {
		return nil, fmt.Errorf("identity: %w: `age-keygen -o %s` makes one", err, path)
	}
	if err == nil {
		s.identities, err = agefile.ParseIdentities(ctx, path, text, s.keys.Ask)
	}
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	return s.identities, nil
}

// decrypt decrypts a secret with the identities of the store.
func (s *Store) decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	identities, err := s.unlock(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.keys.Identity == "":
		return nil, fmt.Errorf("%w: give --identity FILE or set $SOV_IDENTITY", ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	value, err := agefile.Decrypt(sealed, identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%w to another identity than this one", ErrLocked)
	}
	return value, err
}

func (s *Store) file(name string) string { return filepath.Join(s.dir, name) }
