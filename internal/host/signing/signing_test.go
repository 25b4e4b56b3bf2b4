package signing

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

func TestNewKeyReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key, err := NewKey(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := dsse.LoadPrivate(path, nil); err != nil || read.Public().ID() != key.Public().ID() {
		t.Errorf("%v, %v", read, err)
	}
	if _, err := NewKey(path, nil); err == nil || !strings.Contains(err.Error(), "is not replaced") {
		t.Errorf("again: %v", err)
	}
}

// answer returns passphrase to each question, and counts the questions.
func answer(passphrase string, asked *int) agefile.Ask {
	return func(context.Context, string, bool) (string, error) {
		*asked++
		return passphrase, nil
	}
}

// cheap is a low cost of a passphrase, for tests.
const cheap = 4

// TestPassphrase: a key with a passphrase is encrypted in its file. Only the passphrase decrypts
// it. A change of the passphrase does not change the key.
func TestPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	asked := 0
	key, err := NewKey(path, WithPassphrase(t.Context(), answer("horse", &asked), cheap))
	if err != nil || asked != 1 {
		t.Fatalf("%v, asked %d times", err, asked)
	}
	sealed := func() bool {
		t.Helper()
		text, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v, %v", info, err, statErr)
		}
		return bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE-----\n")) && !bytes.Contains(text, []byte("PRIVATE KEY"))
	}
	if !sealed() {
		t.Error("the key is plain in its file")
	}
	opens := func(unseal dsse.Unseal, want string) {
		t.Helper()
		read, err := dsse.LoadPrivate(path, unseal)
		if want == "" && (err != nil || read.Public().ID() != key.Public().ID()) {
			t.Errorf("%v", err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	opens(Unseal(t.Context(), answer("horse", &asked)), "")
	opens(Unseal(t.Context(), answer("donkey", &asked)), "the passphrase is wrong")
	opens(Unseal(t.Context(), nil), "not a terminal")
	opens(nil, "encrypted with a passphrase")
	if _, err := NewKey(path, nil); err == nil || !strings.Contains(err.Error(), "is not replaced") {
		t.Errorf("again: %v", err)
	}
	if _, err := ChangePassphrase(path, Unseal(t.Context(), answer("donkey", &asked)), nil); err == nil || !sealed() {
		t.Errorf("changed with a wrong passphrase: %v", err)
	}
	if _, err := ChangePassphrase(path, Unseal(t.Context(), answer("horse", &asked)), nil); err != nil || sealed() {
		t.Errorf("remove: %v", err)
	}
	opens(nil, "")
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := ChangePassphrase(link, nil, WithPassphrase(t.Context(), answer("mule", &asked), cheap)); err != nil || !sealed() {
		t.Errorf("add: %v", err)
	}
	opens(Unseal(t.Context(), answer("mule", &asked)), "")
}

func TestCheckRefusesUnsoundArtifacts(t *testing.T) {
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), []byte("rootfs"))
	if err := os.WriteFile(filepath.Join(dir, "rootfs.img"), []byte("other!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), dir); !errors.As(err, new(*UnsoundError)) {
		t.Errorf("a changed file: %v", err)
	}
	if err := Check(t.Context(), filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "sov build") {
		t.Errorf("no artifact: %v", err)
	}
}
