package agefile

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

func answer(passphrase string) Ask {
	return func(context.Context, string, bool) (string, error) { return passphrase, nil }
}

func write(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestIdentities: each form of an identity decrypts a text for its recipient.
func TestIdentities(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(private, "me@here")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "me@here", []byte("horse"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(t.Context(), []byte(x.String()), "", answer("horse"), 4)
	if err != nil {
		t.Fatal(err)
	}
	armored, err := Armor(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"age": "# a comment\n" + x.String(), "age with a passphrase": string(sealed), "age in text form": string(armored),
		"ssh": string(pem.EncodeToMemory(plain)), "ssh with a passphrase": string(pem.EncodeToMemory(locked)),
	} {
		path := write(t, text, 0o600)
		identities, err := Identities(t.Context(), path, answer("horse"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		public, err := RecipientOf(identities[0])
		if err != nil {
			t.Fatal(err)
		}
		to, err := Recipients([]string{public, write(t, "# mine\n\n"+public+"\n", 0o644)})
		if err != nil || len(to) != 1 || to[0].Text != public {
			t.Errorf("%s: recipients %v, %v", name, to, err)
			continue
		}
		secret, err := Encrypt([]byte("secret"), Keys(to)...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decrypt(secret, identities...); err != nil || string(got) != "secret" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		wrong, err := Identities(t.Context(), path, answer("donkey"))
		if err == nil {
			_, err = Decrypt(secret, wrong...)
		}
		if asks := strings.Contains(name, "passphrase") || strings.Contains(name, "text"); asks != errors.Is(err, ErrPassphrase) {
			t.Errorf("%s, with a wrong passphrase: %v", name, err)
		}
		if _, err := Identities(t.Context(), write(t, text, 0o640), nil); err == nil || !strings.Contains(err.Error(), "other users can read it") {
			t.Errorf("%s, readable: %v", name, err)
		}
	}
}

// TestBadRecipients: the error reports a private key without its text.
func TestBadRecipients(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"age1x":                           "must be age1",
		"ssh-dss AAAA":                    "must be age1",
		"ssh-ed25519":                     "must be age1",
		"absent":                          "no such file",
		write(t, "# none\n", 0o600):       "holds no recipient",
		write(t, "\nhello\n", 0o600):      "line 2",
		write(t, x.String()+"\n", 0o600):  "is a private key",
		write(t, "-----BEGIN X\n", 0o600): "is a private key",
	} {
		if _, err := Recipients([]string{value}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%q: %v, want %q", value, err, want)
		}
	}
}
