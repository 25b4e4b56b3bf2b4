package secrets

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

// A Store holds the secrets of a user's machines. A Store must not be used concurrently, but
// several processes may use one folder.
type Store struct {
	dir        string
	keys       Keys
	identities []age.Identity // cached identities that decrypt secrets
	work       int            // work factor of a passphrase: log2 of scrypt's N; 0: age's default, about a second
}

// Keys say how the encrypted secrets of a store are decrypted.
type Keys struct {
	// Identity is the path of an age identity file, which may itself be encrypted with a
	// passphrase. When it is empty the store's own identity is used.
	Identity string
	// Ask prompts the user for a passphrase. Nil: there is no terminal.
	Ask agefile.Ask
}

// Open returns the store in a folder, which need not exist.
func Open(dir string, keys Keys) *Store { return &Store{dir: dir, keys: keys} }

// Info describes a secret.
type Info struct {
	Name      string
	Encrypted bool
	Changed   time.Time
}

// Check returns an error if a value cannot be a secret: it is empty, longer than
// guestspec.MaxSecret, not UTF-8, contains NUL, or begins like an encrypted secret.
func Check(value []byte) error {
	switch text := string(value); {
	case text == "":
		return errors.New("the secret is empty: type it at the terminal, or write it to the standard input")
	case len(text) > guestspec.MaxSecret:
		return fmt.Errorf("the secret has more than %d bytes", guestspec.MaxSecret)
	case !utf8.ValidString(text):
		return errors.New("the secret is not UTF-8 text")
	case strings.ContainsRune(text, 0):
		return errors.New("the secret holds a NUL character")
	case agefile.Is(value):
		return errors.New("the secret is an age file: enter its decrypted content")
	}
	return nil
}

// Set stores a secret, replacing one with the same name. It is encrypted if the store has
// recipients.
func (s *Store) Set(vm, name string, value []byte) error {
	path, err := s.path(vm, name)
	if err != nil {
		return err
	}
	if err := Check(value); err != nil {
		return err
	}
	recipients, err := s.recipients()
	if err != nil {
		return err
	}
	if len(recipients) > 0 {
		if value, err = agefile.Encrypt(value, agefile.Keys(recipients)...); err != nil {
			return fmt.Errorf("encrypt secret %s: %w", name, err)
		}
	}
	return s.write(path, value)
}

// Generate generates a password of at least 128 bits, stores it under a name, and returns it with
// the path of its file.
func (s *Store) Generate(vm, name string) (password []byte, path string, err error) {
	if path, err = s.path(vm, name); err != nil {
		return nil, "", err
	}
	password = []byte(rand.Text())
	return password, path, s.Set(vm, name, password)
}

// MakeDataKey generates the key of a machine's encrypted data disk, of at least 256 bits, stores
// it, and returns it with the path of its file. It never replaces an existing key: the data would
// be lost.
func (s *Store) MakeDataKey(vm string) (key []byte, path string, err error) {
	if path, err = s.path(vm, guestspec.SecretDataKey); err != nil {
		return nil, "", err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, path, fmt.Errorf("make a key of the data disk of %s: %s exists", vm, path)
	}
	key = []byte(rand.Text() + rand.Text())
	return key, path, s.Set(vm, guestspec.SecretDataKey, key)
}

// ChangeDataKey generates a new key for a machine's encrypted data disk. The previous key is kept
// as guestspec.SecretOldDataKey, with which the guest opens a disk to change its key. If a change
// is not complete yet, no key is generated. It reports whether one was.
func (s *Store) ChangeDataKey(ctx context.Context, vm string) (made bool, err error) {
	all, err := s.All(ctx, vm)
	if err != nil {
		return false, err
	}
	now, old := all[guestspec.SecretDataKey], all[guestspec.SecretOldDataKey]
	if now == nil {
		return false, fmt.Errorf("change the key of the data disk of %s: no key is kept here (secret %s): `sov push %[1]s` makes one for a recipe with vm.encrypt: true", vm, guestspec.SecretDataKey)
	}
	if old != nil && !bytes.Equal(old, now) { // equal: the process was killed before the new key was stored
		return false, nil
	}
	if err := s.Set(vm, guestspec.SecretOldDataKey, now); err != nil {
		return false, err
	}
	return true, s.Set(vm, guestspec.SecretDataKey, []byte(rand.Text()+rand.Text()))
}

// Generator returns a function that generates a machine's secret on the first call with its name
// and returns the same one afterwards. The function may be called concurrently. made is called for
// each generated secret.
func (s *Store) Generator(vm string, made func(name, path string)) func(name string) ([]byte, error) {
	var mu sync.Mutex
	all := map[string][]byte{}
	return func(name string) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if value, ok := all[name]; ok {
			return value, nil
		}
		value, path, err := s.Generate(vm, name)
		if err != nil {
			return nil, err
		}
		all[name] = value
		made(name, path)
		return value, nil
	}
}

// Get returns a secret. The error wraps fs.ErrNotExist if there is none.
func (s *Store) Get(ctx context.Context, vm, name string) ([]byte, error) {
	value, err := s.get(ctx, vm, name)
	if err != nil {
		return nil, fmt.Errorf("secret %s of %s: %w", name, vm, err)
	}
	return value, nil
}

// Remove removes a secret and reports whether there was one.
func (s *Store) Remove(vm, name string) (bool, error) {
	path, err := s.path(vm, name)
	if err != nil {
		return false, err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// List returns a machine's secrets without their values, sorted by name. It needs no key.
func (s *Store) List(vm string) ([]Info, error) {
	folder, err := s.folder(vm)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, e := range entries {
		if !guestspec.ValidSecretName(e.Name()) {
			continue // a temporary file, whose name begins with a dot
		}
		info, err := s.describe(filepath.Join(folder, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// Has reports whether a secret is stored. It needs no key.
func (s *Store) Has(vm, name string) (bool, error) {
	list, err := s.List(vm)
	return slices.ContainsFunc(list, func(i Info) bool { return i.Name == name }), err
}

func (s *Store) describe(path string) (Info, error) {
	f, info, err := s.open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	content, err := readAll(f, int64(len(agefile.Header)))
	if err != nil && !errors.Is(err, errTooLong) {
		return Info{}, err
	}
	return Info{Name: info.Name(), Encrypted: agefile.Is(content), Changed: info.ModTime()}, nil
}

// All returns a machine's secrets by name. It prompts for a passphrase only if a secret needs it,
// and once for the store.
func (s *Store) All(ctx context.Context, vm string) (map[string][]byte, error) {
	list, err := s.List(vm)
	if err != nil {
		return nil, err
	}
	all := make(map[string][]byte, len(list))
	for _, info := range list {
		if all[info.Name], err = s.Get(ctx, vm, info.Name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *Store) get(ctx context.Context, vm, name string) ([]byte, error) {
	path, err := s.path(vm, name)
	if err != nil {
		return nil, err
	}
	value, err := s.read(path, maxEncrypted)
	if err == nil && agefile.Is(value) {
		value, err = s.decrypt(ctx, value)
	}
	if err != nil {
		return nil, err
	}
	return value, Check(value)
}

func (s *Store) path(vm, name string) (string, error) {
	folder, err := s.folder(vm)
	if err != nil {
		return "", err
	}
	if !guestspec.ValidSecretName(name) {
		return "", fmt.Errorf("secret %q: a name must be up to 64 letters, digits, dots, underscores and dashes", name)
	}
	return filepath.Join(folder, name), nil
}

func (s *Store) folder(vm string) (string, error) {
	if err := artifact.CheckName(vm); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, vm), nil
}
