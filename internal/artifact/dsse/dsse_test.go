package dsse

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const kind = "application/vnd.example+json"

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func seal(t testing.TB, key PrivateKey, payload string) []byte {
	t.Helper()
	file, err := Seal(key, kind, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPAE checks the test vector of DSSE's protocol.md.
func TestPAE(t *testing.T) {
	got := pae("http://example.com/HelloWorld", []byte("hello world"))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSealOpen(t *testing.T) {
	key := newKey(t)
	file := seal(t, key, "content")
	if again := seal(t, key, "content"); !bytes.Equal(file, again) {
		t.Error("the same content gives another envelope")
	}
	payload, err := Open(key.Public(), kind, file)
	if err != nil || string(payload) != "content" {
		t.Errorf("got %q, %v", payload, err)
	}
	if _, err := Open(newKey(t).Public(), kind, file); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not by") {
		t.Errorf("another key: %v", err)
	}
	if _, err := Open(key.Public(), "application/vnd.other+json", file); !errors.Is(err, ErrRefused) {
		t.Errorf("another type: %v", err)
	}
}

// TestEveryBit flips each bit of an envelope's file, and truncates the file at each byte.
func TestEveryBit(t *testing.T) {
	key := newKey(t)
	file := seal(t, key, `{"a": "content whose base64 has bits to spare"}`)
	for i := range file {
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[i] ^= 1 << bit
			if _, err := Open(key.Public(), kind, bad); !errors.Is(err, ErrRefused) {
				t.Fatalf("bit %d of byte %d (%q in %q): %v", bit, i, bad[i], file[max(0, i-9):i+1], err)
			}
		}
		if _, err := Open(key.Public(), kind, file[:i]); !errors.Is(err, ErrRefused) {
			t.Fatalf("%d of %d bytes: %v", i, len(file), err)
		}
	}
}

func TestOtherForms(t *testing.T) {
	key := newKey(t)
	good := string(seal(t, key, "content"))
	for name, bad := range map[string]string{
		"a space more":     good + " ",
		"no newline":       strings.TrimSuffix(good, "\n"),
		"another key":      strings.Replace(good, "{", `{"more": 1,`, 1),
		"capitals":         strings.Replace(good, `"payload"`, `"Payload"`, 1),
		"a key twice":      strings.Replace(good, `"payload":`, `"payload": "", "payload":`, 1),
		"a line in base64": strings.Replace(good, `"payload": "`, `"payload": "\n`, 1),
		"no signatures":    `{"payloadType": "` + kind + `", "payload": "", "signatures": []}`,
		"null":             "null",
	} {
		if _, err := Open(key.Public(), kind, []byte(bad)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t)
	private, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().PEM()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, open := write("key", private, 0o600), write("pub", public, 0o644)
	if got, err := LoadPrivate(secret, nil); err != nil || !bytes.Equal(got, key) {
		t.Errorf("private key: %v", err)
	}
	if got, err := LoadPublic(open); err != nil || got.ID() != key.Public().ID() {
		t.Errorf("public key: %v", err)
	}
	for name, fails := range map[string]struct {
		load func() error
		want string
	}{
		"readable": {func() error { _, err := LoadPrivate(write("readable", private, 0o644), nil); return err }, "chmod 600"},
		"swapped":  {func() error { _, err := LoadPublic(secret); return err }, "sov key public"},
		"public":   {func() error { _, err := LoadPrivate(write("p", public, 0o600), nil); return err }, "is a public key, which cannot sign"},
		"two":      {func() error { _, err := LoadPublic(write("two", append(public, public...), 0o644)); return err }, "more than one"},
		"empty":    {func() error { _, err := LoadPublic(write("empty", nil, 0o644)); return err }, "not a key in PEM"},
		"absent":   {func() error { _, err := LoadPublic(filepath.Join(dir, "x")); return err }, "no such file"},
	} {
		if err := fails.load(); err == nil || !strings.Contains(err.Error(), fails.want) {
			t.Errorf("%s: got %v, want %s", name, err, fails.want)
		}
	}
}

// TestOpenSSL: openssl reads the keys, verifies a signature and returns the same key ID.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not there")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	key := newKey(t)
	private, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	e, payload, err := Peek(kind, seal(t, key, "content"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := encoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"key": private, "signed": pae(kind, payload), "sig": sig} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := `set -e
openssl pkey -in key -pubout -out pub
openssl pkeyutl -verify -rawin -pubin -inkey pub -in signed -sigfile sig
openssl pkey -pubin -in pub -outform DER | sha256sum`
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), key.Public().ID()) {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	public, err := key.Public().PEM()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("pub"); err != nil || !bytes.Equal(got, public) {
		t.Errorf("openssl writes the public key as\n%s and sov as\n%s", got, public)
	}
}

func FuzzOpen(f *testing.F) {
	key, err := NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seal(f, key, "content"))
	f.Add([]byte(`{"payloadType":"` + kind + `","payload":"","signatures":[{"keyid":"","sig":""}]}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		defer costtest.Text.Watch(t, len(file))()
		payload, err := Open(key.Public(), kind, file)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("not a refusal: %v", err)
			}
			return
		}
		if want := seal(t, key, string(payload)); !bytes.Equal(file, want) {
			t.Errorf("accepted %q, which is not %q", file, want)
		}
	})
}
