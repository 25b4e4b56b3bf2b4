package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	if _, stderr, status := cli(t, "key", "public"); status != exitFailed || !strings.Contains(stderr, "sov key new") {
		t.Errorf("no key: status %d, says %q", status, stderr)
	}
	named := filepath.Join(dir, "release.pem")
	for _, args := range [][]string{nil, {named}} {
		out, stderr, status := cli(t, append([]string{"key", "new"}, args...)...)
		if status != exitDone || !strings.HasPrefix(out, "wrote ") {
			t.Fatalf("key new: status %d: %s%s", status, out, stderr)
		}
		path := strings.TrimSuffix(strings.Fields(out)[1], ",")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		public, stderr, status := cli(t, append([]string{"key", "public"}, args...)...)
		key, err := dsse.ParsePublic([]byte(public))
		if status != exitDone || err != nil || !strings.Contains(out, key.ID()) {
			t.Errorf("key public: status %d, %v: %s%s", status, err, public, stderr)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, stderr, status := cli(t, append([]string{"key", "new"}, args...)...); status != exitFailed || !strings.Contains(stderr, "is not replaced") {
			t.Errorf("key new again: status %d, says %q", status, stderr)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the key was replaced: %v", err)
		}
	}
}

// sealedKey creates a key with the passphrase horse, at a low cost of key derivation, and two
// files: one with that passphrase and one with a wrong passphrase.
func sealedKey(t *testing.T) (key, horse, donkey string) {
	t.Helper()
	dir := t.TempDir()
	key, horse, donkey = filepath.Join(dir, "key.pem"), filepath.Join(dir, "horse"), filepath.Join(dir, "donkey")
	for path, text := range map[string]string{horse: "horse\n", donkey: "donkey"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(context.Context, string, bool) (string, error) { return "horse", nil }
	if _, err := signing.NewKey(key, signing.WithPassphrase(t.Context(), ask, 4)); err != nil {
		t.Fatal(err)
	}
	return key, horse, donkey
}

// TestPassphraseOfEveryVerb verifies that every command that opens a private key reads its
// passphrase from a file and reports a wrong one.
func TestPassphraseOfEveryVerb(t *testing.T) {
	t.Setenv("SOV_STATE_DIR", t.TempDir())
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	t.Setenv("SOV_CACHE_DIR", t.TempDir())
	key, horse, donkey := sealedKey(t)
	t.Chdir(t.TempDir())
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), []byte("rootfs"))
	public, stderr, status := cli(t, "key", "public", key, "--passphrase-file", horse)
	if status != exitDone {
		t.Fatalf("key public: %s", stderr)
	}
	if err := os.WriteFile("sov.pub", []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"key", "public", key},
		{"key", "sign", "sov.pub", "--key", key},
		{"key", "passphrase", key, "--remove"},
		{"sign", dir, "--key", key},
		{"publish", dir, "127.0.0.1:1/team/sql:1", "--sign", key},
		{"build", "sql", "--sign", key},
		{"build", "sql", "--cache-key", key},
		{"bundle", "sql", "-o", "sql.sovbundle", "--sign", key},
		{"phone", "trust", "sov.pub", "--sign", key, "--device", "local:phone"},
		{"cache", "export", "cache.tar", "--cache-key", key},
		{"cache", "import", "cache.tar", "--cache-key", key},
		{"cache", "push", "type=dir,dest=x", "--cache-key", key},
		{"cache", "pull", "type=dir,src=x", "--cache-key", key},
	} {
		if _, stderr, status := cli(t, append(args, "--passphrase-file", donkey)...); status == exitDone || !strings.Contains(stderr, "the passphrase is wrong") {
			t.Errorf("%q: status %d, says %q", args, status, stderr)
		}
	}
	t.Setenv("SOV_PASSPHRASE_FILE", horse)
	if _, stderr, status := cli(t, "key", "sign", "sov.pub", "--key", key); status != exitDone {
		t.Errorf("key sign: status %d: %s", status, stderr)
	}
	if openssl, err := exec.LookPath("openssl"); err == nil {
		verify := exec.Command(openssl, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "sov.pub", "-in", "sov.pub", "-sigfile", "sov.pub.sig")
		if out, err := verify.CombinedOutput(); err != nil {
			t.Errorf("openssl: %v: %s", err, out)
		}
	}
}

// TestPassphraseFiles checks the sources of a passphrase.
func TestPassphraseFiles(t *testing.T) {
	key, horse, _ := sealedKey(t)
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in.WriteString("horse\r\nmore\n")
	in.Close()
	for path, want := range map[string]string{
		horse:                               "",
		fmt.Sprintf("/dev/fd/%d", out.Fd()): "",
		write("readable", "horse\n", 0o644): "other users can read it",
		write("empty", "\nhorse\n", 0o600):  "its first line is empty",
		filepath.Join(dir, "absent"):        "no such file",
	} {
		_, stderr, status := cli(t, "key", "public", key, "--passphrase-file", path)
		if want == "" && status != exitDone || want != "" && (status != exitFailed || !strings.Contains(stderr, want)) {
			t.Errorf("%s: status %d, says %q", path, status, stderr)
		}
	}
}

// TestChangePassphrase adds a passphrase to a key, uses the key with it, and removes it.
func TestChangePassphrase(t *testing.T) {
	_, horse, _ := sealedKey(t)
	key := filepath.Join(t.TempDir(), "key.pem")
	if _, stderr, status := cli(t, "key", "new", key); status != exitDone {
		t.Fatal(stderr)
	}
	before, _, _ := cli(t, "key", "public", key)
	out, stderr, status := cli(t, "key", "passphrase", key, "--new-passphrase-file", horse)
	if status != exitDone || !strings.Contains(out, "is encrypted with the new passphrase") {
		t.Fatalf("status %d: %s%s", status, out, stderr)
	}
	if _, stderr, status := cli(t, "key", "passphrase", key, "--remove", "--passphrase-file", horse); status != exitDone {
		t.Fatal(stderr)
	}
	if after, stderr, status := cli(t, "key", "public", key); status != exitDone || after != before {
		t.Errorf("status %d, the key is another: %s", status, stderr)
	}
}
