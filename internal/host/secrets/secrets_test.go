package secrets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

const canary = "c4n4ry \"'\\\n\u00e9"

func store(t *testing.T, keys Keys) *Store {
	t.Helper()
	return Open(filepath.Join(t.TempDir(), "sov", "secrets"), keys)
}

func set(t *testing.T, s *Store, vm, name, value string) {
	t.Helper()
	if err := s.Set(vm, name, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

// wantAll fails the test unless the machine's secrets are these pairs of name and value.
func wantAll(t *testing.T, s *Store, vm string, pairs ...string) {
	t.Helper()
	all, err := s.All(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(pairs)/2 {
		t.Errorf("%s has %d secrets, want %d", vm, len(all), len(pairs)/2)
	}
	for pair := range slices.Chunk(pairs, 2) {
		if got := string(all[pair[0]]); got != pair[1] {
			t.Errorf("%s of %s is %q, want %q", pair[0], vm, got, pair[1])
		}
	}
}

// files returns the content of every file below the store, by path. It fails the test if another
// user could access a file.
func files(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if want := os.FileMode(0o600); info.Mode().IsRegular() && info.Mode().Perm() != want {
			t.Errorf("%s has mode %#o, want %#o", path, info.Mode().Perm(), want)
		}
		if want := os.FileMode(0o700); info.IsDir() && info.Mode().Perm() != want {
			t.Errorf("%s has mode %#o, want %#o", path, info.Mode().Perm(), want)
		}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			all[strings.TrimPrefix(path, s.dir+"/")] = string(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantEncrypted(t *testing.T, s *Store) {
	t.Helper()
	for path, content := range files(t, s) {
		if strings.Contains(content, "c4n4ry") || strings.Contains(content, "AGE-SECRET-KEY") {
			t.Errorf("%s holds a secret as it is", path)
		}
	}
}

func TestPlainSecrets(t *testing.T) {
	s := store(t, Keys{})
	wantAll(t, s, "sql")
	set(t, s, "sql", "postgres", canary)
	set(t, s, "sql", "postgres", canary+"2")
	set(t, s, "sql", "role-app", strings.Repeat("x", guestspec.MaxSecret))
	set(t, s, "other", "postgres", "3")
	wantAll(t, s, "sql", "postgres", canary+"2", "role-app", strings.Repeat("x", guestspec.MaxSecret))
	wantAll(t, s, "other", "postgres", "3")
	if found := files(t, s); len(found) != 3 {
		t.Errorf("%d files, want 3", len(found))
	}
	list, err := s.List("sql")
	if err != nil || len(list) != 2 || list[0].Name != "postgres" || list[0].Encrypted || list[0].Changed.IsZero() {
		t.Errorf("list: %v, %v", list, err)
	}
	for _, want := range []bool{true, false} {
		if found, err := s.Remove("sql", "role-app"); found != want || err != nil {
			t.Errorf("remove: %t, %v; want %t", found, err, want)
		}
	}
	wantAll(t, s, "sql", "postgres", canary+"2")
}

func TestRefusedNamesAndValues(t *testing.T) {
	for name, tt := range map[string]struct{ vm, name, value, want string }{
		"machine":     {"../sql", "postgres", canary, "not the name of a machine"},
		"name":        {"sql", "../postgres", canary, "a name must be"},
		"hidden name": {"sql", ".new-1", canary, "a name must be"},
		"empty":       {"sql", "postgres", "", "is empty"},
		"long":        {"sql", "postgres", strings.Repeat(canary, guestspec.MaxSecret/len(canary)+1), "more than 65536 bytes"},
		"not text":    {"sql", "postgres", canary + "\xff", "not UTF-8"},
		"NUL":         {"sql", "postgres", canary + "\x00", "NUL"},
		"age file":    {"sql", "postgres", agefile.Header + "v1\n" + canary, "is an age file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, Keys{})
			err := s.Set(tt.vm, tt.name, []byte(tt.value))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("Set: %v, want an error with %q", err, tt.want)
			}
			if _, err := os.Stat(s.dir); err == nil {
				t.Error("something was written")
			}
		})
	}
}

func TestReadableByOthersIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(s *Store) error{
		"is open to others (mode 0644)":  func(s *Store) error { return os.Chmod(s.dir+"/sql/postgres", 0o644) },
		"is open to others (mode 0620)":  func(s *Store) error { return os.Chmod(s.dir+"/sql/postgres", 0o620) },
		"sql is open to others":          func(s *Store) error { return os.Chmod(s.dir+"/sql", 0o711) },
		"secrets is open to others":      func(s *Store) error { return os.Chmod(s.dir, 0o750) },
		"is a symbolic link":             func(s *Store) error { return relink(s.dir + "/sql/postgres") },
		"sql is not a folder":            func(s *Store) error { return relink(s.dir + "/sql") },
		"postgres is not a regular file": func(s *Store) error { return remake(s.dir + "/sql/postgres") },
		"belongs to another user":        func(s *Store) error { return os.Lchown(s.dir+"/sql/postgres", 12345, -1) },
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "belongs") && os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			s := store(t, Keys{})
			set(t, s, "sql", "postgres", canary)
			if err := spoil(s); err != nil {
				t.Fatal(err)
			}
			_, err := s.All(t.Context(), "sql")
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("All: %v, want an error with %q", err, name)
			}
		})
	}
}

// relink moves the file at path and makes path a symbolic link to it. remake replaces a folder.
func relink(path string) error {
	return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
}

func remake(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }

// identityFile writes an age identity file and returns its path.
func identityFile(t *testing.T, identity interface{ String() string }) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(path, []byte("# a comment\n"+identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func encryptStore(t *testing.T, s *Store, want int) {
	t.Helper()
	if n, err := s.Encrypt(t.Context()); n != want || err != nil {
		t.Fatalf("Encrypt: %d, %v; want %d", n, err, want)
	}
}

func TestIdentity(t *testing.T) {
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, identity := range map[string]interface{ String() string }{"X25519": classic, "post-quantum": hybrid} {
		t.Run(name, func(t *testing.T) {
			plain := store(t, Keys{})
			set(t, plain, "sql", "postgres", canary)
			set(t, plain, "other", "postgres", canary)
			s := Open(plain.dir, Keys{Identity: identityFile(t, identity)})
			encryptStore(t, s, 2)
			encryptStore(t, s, 0)
			set(t, plain, "sql", "role-app", canary) // needs no key
			wantEncrypted(t, s)
			wantAll(t, s, "sql", "postgres", canary, "role-app", canary)
			if list, err := plain.List("sql"); err != nil || len(list) != 2 || !list[1].Encrypted {
				t.Errorf("list: %v, %v", list, err)
			}
			if _, err := plain.All(t.Context(), "sql"); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "--identity") {
				t.Errorf("without a key: %v, want ErrLocked", err)
			}
		})
	}
	t.Run("link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(identityFile(t, classic), link); err != nil {
			t.Fatal(err)
		}
		encryptStore(t, store(t, Keys{Identity: link}), 0)
	})
	t.Run("pipe", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(classic.String()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		encryptStore(t, store(t, Keys{Identity: fmt.Sprintf("/dev/fd/%d", r.Fd())}), 0)
	})
	t.Run("another's", func(t *testing.T) {
		s := store(t, Keys{Identity: identityFile(t, classic)})
		encryptStore(t, s, 0)
		set(t, s, "sql", "postgres", canary)
		wrong := Open(s.dir, Keys{Identity: identityFile(t, hybrid)})
		if _, err := wrong.All(t.Context(), "sql"); !errors.Is(err, ErrLocked) {
			t.Errorf("All: %v, want ErrLocked", err)
		}
		if _, err := wrong.Encrypt(t.Context()); err == nil || !strings.Contains(err.Error(), "to others already") {
			t.Errorf("Encrypt: %v", err)
		}
		wantAll(t, s, "sql", "postgres", canary)
	})
}

// TestRecipientsByHand: the manual steps of docs/secrets.md, which add a recipient and turn off
// encryption.
func TestRecipientsByHand(t *testing.T) {
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	yours, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, Keys{Identity: identityFile(t, mine)})
	encryptStore(t, s, 0)
	list, err := os.OpenFile(s.file(recipientsName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintln(list, yours.Recipient())
	if err := errors.Join(err, list.Close()); err != nil {
		t.Fatal(err)
	}
	set(t, s, "sql", "postgres", canary)
	wantEncrypted(t, s)
	wantAll(t, s, "sql", "postgres", canary)
	wantAll(t, Open(s.dir, Keys{Identity: identityFile(t, yours)}), "sql", "postgres", canary)

	if err := os.WriteFile(s.file(recipientsName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Set("sql", "postgres", []byte(canary)); err == nil {
		t.Error("an empty list of recipients is taken for none")
	}
	if err := os.Remove(s.file(recipientsName)); err != nil {
		t.Fatal(err)
	}
	set(t, s, "sql", "postgres", canary)
	wantAll(t, Open(s.dir, Keys{}), "sql", "postgres", canary)
}

func TestInvalidIdentityFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"open to others": {"AGE-SECRET-KEY-1c4n4ry", 0o644, "other users can read it"},
		"no key":         {"AGE-SECRET-KEY-1c4n4ry", 0o600, "not an age identity file"},
		"long":           {strings.Repeat("#c4n4ry\n", agefile.MaxKeys/8+1), 0o600, "larger than accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.txt")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			s := store(t, Keys{Identity: path})
			_, err := s.Encrypt(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("Encrypt: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestPassphrase(t *testing.T) {
	asked := 0
	answer := "correct horse"
	ask := func(_ context.Context, _ string, isNew bool) (string, error) {
		asked++
		if want := asked == 1; isNew != want {
			t.Errorf("question %d: new passphrase: %t, want %t", asked, isNew, want)
		}
		return answer, nil
	}
	s := store(t, Keys{Ask: ask})
	s.work = 10
	encryptStore(t, s, 0)
	set(t, s, "sql", "postgres", canary)
	s = Open(s.dir, s.keys)
	set(t, s, "sql", "role-app", canary)
	encryptStore(t, s, 0)
	if asked != 1 {
		t.Errorf("%d questions to set secrets, want the one for the new passphrase", asked)
	}
	wantEncrypted(t, s)
	wantAll(t, s, "sql", "postgres", canary, "role-app", canary)
	wantAll(t, s, "sql", "postgres", canary, "role-app", canary)
	if asked != 2 {
		t.Errorf("%d questions in all, want one to open them", asked)
	}
	answer = "wrong"
	if _, err := Open(s.dir, s.keys).All(t.Context(), "sql"); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "passphrase is wrong") {
		t.Errorf("All: %v, want ErrLocked", err)
	}
	// Power is cut between the writes of the first call's two files.
	if err := os.Remove(s.file(recipientsName)); err != nil {
		t.Fatal(err)
	}
	answer = "correct horse"
	encryptStore(t, Open(s.dir, s.keys), 0)
	wantAll(t, Open(s.dir, s.keys), "sql", "postgres", canary, "role-app", canary)
}

func TestDamagedSecret(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, Keys{Identity: identityFile(t, identity)})
	encryptStore(t, s, 0)
	set(t, s, "sql", "postgres", canary)
	path := s.dir + "/sql/postgres"
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed[len(sealed)-1] ^= 1
	if err := os.WriteFile(path, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.All(t.Context(), "sql"); err == nil || !strings.Contains(err.Error(), "postgres") {
		t.Errorf("All: %v, want an error", err)
	}
}

// TestDataKey makes the key of a data disk once. A change keeps the previous key until it is
// forgotten.
func TestDataKey(t *testing.T) {
	s := store(t, Keys{})
	if _, err := s.ChangeDataKey(t.Context(), "sql"); err == nil {
		t.Error("a change without a key")
	}
	key, _, err := s.MakeDataKey("sql")
	if err != nil || len(key) != 52 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	if _, _, err := s.MakeDataKey("sql"); err == nil {
		t.Error("a second key in place of the first")
	}
	wantAll(t, s, "sql", guestspec.SecretDataKey, string(key))
	set(t, s, "sql", guestspec.SecretOldDataKey, string(key)) // killed before the new key was stored
	set(t, s, "vault", guestspec.SecretDataKey, "first")
	if made, err := s.ChangeDataKey(t.Context(), "vault"); err != nil || !made {
		t.Errorf("changed %t, %v", made, err)
	}
	if all, err := s.All(t.Context(), "vault"); err != nil || string(all[guestspec.SecretOldDataKey]) != "first" || len(all[guestspec.SecretDataKey]) != 52 {
		t.Errorf("after a change: %d secrets, %v", len(all), err)
	}
	for _, want := range []bool{true, false} {
		if made, err := s.ChangeDataKey(t.Context(), "sql"); err != nil || made != want {
			t.Errorf("changed %t, %v, want %t", made, err, want)
		}
	}
	all, err := s.All(t.Context(), "sql")
	if err != nil || string(all[guestspec.SecretOldDataKey]) != string(key) || string(all[guestspec.SecretDataKey]) == string(key) {
		t.Errorf("after a change: %v", err)
	}
	if has, err := s.Has("sql", "postgres"); has || err != nil {
		t.Errorf("a secret that is not kept: %t, %v", has, err)
	}
}
