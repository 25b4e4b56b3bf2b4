// Package trust decides which versions a phone accepts. A phone with public keys accepts only
// versions that are signed with one of them. It accepts a signed version only if its serial is not
// lower than the highest accepted serial of the same machine and key. A rollback to a version in a
// slot is not checked, because it was accepted before.
//
// The keys and the serials stay when machines are removed. Root on the phone can reset them by
// removing their files.
package trust

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/contract/trustapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// format is the version of the file with the keys.
const format = 1

// maxKeys is the maximum number of keys of a phone.
const maxKeys = 16

// A Store has a phone's trusted keys and accepted serials.
type Store struct{ root phonepath.Root }

// Of returns the store of a phone. Its files need not exist.
func Of(root phonepath.Root) Store { return Store{root} }

// file is the content of the file with the keys.
type file struct {
	Format    int      `json:"format"`
	Challenge string   `json:"challenge"`
	Keys      [][]byte `json:"keys"` // SubjectPublicKeyInfo, in DER
	parsed    []dsse.PublicKey
}

// load reads the keys. A file that cannot be read is an error, never a phone without keys.
func (s Store) load() (*file, error) {
	path := s.root.TrustedKeys()
	text, err := installed.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &file{Format: format, Challenge: "first"}, nil
	}
	f := &file{}
	if err == nil {
		err = json.Unmarshal(text, f)
	}
	if err == nil && f.Format != format {
		err = fmt.Errorf("its format is %d, this program reads %d", f.Format, format)
	}
	for _, der := range f.Keys {
		if err != nil {
			break
		}
		var key dsse.PublicKey
		key, err = dsse.ParseDER(der)
		f.parsed = append(f.parsed, key)
	}
	if err != nil {
		return nil, fmt.Errorf("read the trusted keys in %s: %w: no version is taken until the file is repaired, or removed by root on the phone", path, err)
	}
	return f, nil
}

// List returns the keys.
func (s Store) List() (*trustapi.List, error) {
	f, err := s.load()
	if err != nil {
		return nil, err
	}
	l := &trustapi.List{Keys: []string{}, Challenge: f.Challenge}
	for _, key := range f.parsed {
		l.Keys = append(l.Keys, key.ID())
	}
	return l, nil
}

// Change applies a change, which adds or removes a key. The change must be signed with one of the
// keys; a phone without keys accepts an unsigned one.
func (s Store) Change(change []byte) (*trustapi.List, error) {
	if err := durable.MkdirAll(s.root.Trust(), 0o755); err != nil {
		return nil, err
	}
	lock, err := durable.WaitLock(context.Background(), s.root.Trust(), durable.Exclusive, durable.LockOptions{Existing: true})
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	f, err := s.load()
	if err != nil {
		return nil, err
	}
	c, err := trustapi.Decode(change, f.parsed)
	if err != nil {
		return nil, err
	}
	if c.Challenge != f.Challenge {
		return nil, errors.New("the change is for another phone, or the phone's keys have changed since: try again")
	}
	if err := f.apply(c); err != nil {
		return nil, err
	}
	var fresh [16]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return nil, err
	}
	f.Challenge = hex.EncodeToString(fresh[:])
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = durable.WriteFile(s.root.TrustedKeys(), append(text, '\n'), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("change the trusted keys: %w", err)
	}
	return s.List()
}

func (f *file) apply(c *trustapi.Change) error {
	if c.Remove != "" {
		at := slices.IndexFunc(f.parsed, func(k dsse.PublicKey) bool { return k.ID() == c.Remove })
		if at < 0 {
			return fmt.Errorf("the phone does not trust the key %.64q: sov phone trust --list", c.Remove)
		}
		f.Keys = slices.Delete(f.Keys, at, at+1)
		return nil
	}
	if _, err := dsse.ParseDER(c.Add); err != nil {
		return fmt.Errorf("the key to trust: %w", err)
	}
	if slices.ContainsFunc(f.Keys, func(k []byte) bool { return bytes.Equal(k, c.Add) }) {
		return nil
	}
	if len(f.Keys) >= maxKeys {
		return fmt.Errorf("a phone trusts at most %d keys: remove one first", maxKeys)
	}
	f.Keys = append(f.Keys, c.Add)
	return nil
}

// Admit decides whether the phone accepts a version. envelope is its signature, or nil. If the
// phone does not accept it, the error is a *pushapi.Refusal.
func (s Store) Admit(a *installed.Artifact, envelope []byte, allowDowngrade bool) (*provenance.Signed, error) {
	f, err := s.load()
	if err != nil {
		return nil, err
	}
	name := a.Manifest.Name
	if envelope == nil {
		return nil, f.admitUnsigned(name)
	}
	signed, err := provenance.OpenSigned(envelope)
	if err == nil && !signed.IsOf(name, a.Digest) {
		err = fmt.Errorf("it is about another version, of the machine %s", signed.Name)
	}
	if err != nil {
		return nil, refuse(pushapi.CodeUntrusted, "%s: its signature is not valid: %v: sign it again with `sov sign`", name, err)
	}
	id := signed.By.ID()
	if len(f.parsed) > 0 && !slices.ContainsFunc(f.parsed, func(k dsse.PublicKey) bool { return k.ID() == id }) {
		return nil, refuse(pushapi.CodeUntrusted, "%s: it is signed by key %s, which this phone does not trust: it takes versions signed by %s", name, id, f.names())
	}
	if allowDowngrade {
		return signed, nil
	}
	err = s.memory().Check(line(signed), signed.Serial)
	if lower := new(serials.LowerError); errors.As(err, &lower) {
		return nil, refuse(pushapi.CodeDowngrade, "%v. If the phone still has it in its other slot: sov rollback %s", err, name)
	}
	return signed, err
}

func (f *file) admitUnsigned(name string) error {
	if len(f.parsed) == 0 {
		return nil
	}
	return refuse(pushapi.CodeUntrusted, "%s: it is not signed, and this phone takes only versions that are signed by %s: sign it with `sov sign`", name, f.names())
}

func (f *file) names() string {
	var ids []string
	for _, k := range f.parsed {
		ids = append(ids, fmt.Sprintf("key %.16s…", k.ID()))
	}
	return strings.Join(ids, " or ")
}

func refuse(code, format string, args ...any) error {
	return &pushapi.Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Remember records the serial of a version that will be installed. signed is nil for an unsigned
// version.
func (s Store) Remember(signed *provenance.Signed) error {
	if signed == nil {
		return nil
	}
	return s.memory().Note(signed.Serial, line(signed))
}

func (s Store) memory() serials.Memory { return serials.At(s.root.Serials()) }

func line(s *provenance.Signed) serials.Line { return serials.Line{Of: s.Name, Key: s.By.ID()} }

// Files returns the existing files of the store.
func (s Store) Files() (there []string) {
	for _, path := range []string{s.root.TrustedKeys(), s.root.Serials()} {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}
