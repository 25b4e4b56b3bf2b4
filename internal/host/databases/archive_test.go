package databases

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

// canary fills the content of the database.
const canary = "c4n4ry of a row\n"

// send writes a stream of roles and a database of some MiB. It calls between after each chunk.
func send(w io.Writer, between func()) {
	s := backup.NewWriter(w)
	s.Begin(backup.Part{Kind: backup.KindRoles})
	io.WriteString(s, "CREATE ROLE x;\n")
	s.End()
	s.Begin(backup.Part{Kind: backup.KindDatabase, Database: &backup.Database{Name: "shop"}})
	for range 40 {
		io.WriteString(s, strings.Repeat(canary, 1<<16/len(canary)))
		between()
	}
	s.End()
	s.Close()
}

// write writes a backup to path. It calls between while it writes.
func write(t *testing.T, path string, to []agefile.Recipient, between func()) {
	t.Helper()
	out, in := io.Pipe()
	go func() {
		send(in, between)
		in.Close()
	}()
	if _, err := backup.Create(path, backup.Backup{Machine: "sql"}, backup.NewReader(out), encryption(to)); err != nil {
		t.Fatal(err)
	}
}

// ageKey makes an age identity, and returns its file and its recipient.
func ageKey(t *testing.T) (identity string, to []agefile.Recipient) {
	t.Helper()
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity = filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(identity, []byte(x.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to, err = agefile.Recipients([]string{x.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	return identity, to
}

// sshKey makes an SSH key with the passphrase horse, and returns its file and its recipient.
func sshKey(t *testing.T) (path string, to []agefile.Recipient) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("horse"))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "id_ed25519")
	for path, text := range map[string][]byte{path: pem.EncodeToMemory(block), path + ".pub": ssh.MarshalAuthorizedKey(sshPublic)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to, err = agefile.Recipients([]string{path + ".pub"})
	if err != nil {
		t.Fatal(err)
	}
	return path, to
}

func answer(passphrase string) agefile.Ask {
	return func(context.Context, string, bool) (string, error) { return passphrase, nil }
}

func open(t *testing.T, path string, k Keys) (*Archive, error) {
	t.Helper()
	key, err := Unlock(t.Context(), path, k)
	if err != nil {
		return nil, err
	}
	return Open(path, key)
}

// TestEncryptedBackup: plain text is never written to the disk. Only the recipients can open the
// file.
func TestEncryptedBackup(t *testing.T) {
	identity, to := ageKey(t)
	sshKey, more := sshKey(t)
	to = append(to, more...)
	path := filepath.Join(t.TempDir(), "b.age")
	looked, plain := 0, 0
	look := func() {
		files, _ := os.ReadDir(filepath.Dir(path))
		for _, f := range files {
			content, err := os.ReadFile(filepath.Join(filepath.Dir(path), f.Name()))
			if err == nil && len(content) > 1<<20 {
				looked++
				if bytes.Contains(content, []byte("c4n4ry")) || bytes.Contains(content, []byte("CREATE ROLE")) {
					plain++
				}
			}
		}
	}
	write(t, path, nil, look)
	if looked == 0 || plain != looked {
		t.Fatalf("a plain backup: of %d looks at its file %d find it plain", looked, plain)
	}
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	looked, plain = 0, 0
	write(t, path, to, look)
	look()
	if looked < 2 || plain != 0 {
		t.Errorf("of %d looks at the file of an encrypted backup %d find it plain", looked, plain)
	}
	for name, k := range map[string]Keys{"age": {Identity: identity}, "ssh": {Identity: sshKey, Ask: answer("horse")}} {
		a, err := open(t, path, k)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var out bytes.Buffer
		err = a.Send(backup.NewWriter(&out), a.All())
		if err != nil || a.Recipients != 2 || !slices.Equal(a.Databases(), []string{"shop"}) || bytes.Count(out.Bytes(), []byte(canary)) < 40*4000 {
			t.Errorf("%s: %d recipients, %q, %d bytes, %v", name, a.Recipients, a.Databases(), out.Len(), err)
		}
		a.Close()
	}
	other, _ := ageKey(t)
	for name, c := range map[string]struct {
		keys Keys
		want string
	}{
		"no key":           {Keys{}, "is encrypted to 2 recipients: give --identity"},
		"another":          {Keys{Identity: other}, "matches none of them"},
		"absent":           {Keys{Identity: other + "x"}, "no such file"},
		"wrong passphrase": {Keys{Identity: sshKey, Ask: answer("donkey")}, "the passphrase is wrong"},
		"no terminal":      {Keys{Identity: sshKey}, "not a terminal"},
	} {
		if _, err := open(t, path, c.keys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}

	// An unencrypted backup opens as before, with and without an identity.
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Keys{{}, {Identity: identity}} {
		a, err := open(t, path, k)
		if err != nil || a.Recipients != 0 {
			t.Fatalf("a plain backup: %+v, %v", a, err)
		}
		a.Close()
	}
}

// TestChangedEncryptedBackup: Unlock or Open refuses a file that was truncated or changed anywhere,
// before a restore begins.
func TestChangedEncryptedBackup(t *testing.T) {
	identity, to := ageKey(t)
	path := filepath.Join(t.TempDir(), "b.age")
	write(t, path, to, func() {})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, at int, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := open(t, path, Keys{Identity: identity})
		if err == nil {
			a.Close()
			t.Errorf("%s at %d of %d: it is not detected", what, at, len(whole))
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s at %d: the file is not named: %v", what, at, err)
		}
	}
	const chunk = 64<<10 + 16 // the age specification, "Payload"
	body := len(whole) % chunk
	places := []int{0, 21, 30, 60, 150, body - 1, body, body + 1, len(whole) / 2, len(whole) - chunk, len(whole) - 17, len(whole) - 1}
	for i := range 24 {
		places = append(places, i*len(whole)/24)
	}
	for _, at := range places {
		changed := slices.Clone(whole)
		changed[at] ^= 0x20
		refused("a bit", at, changed)
		refused("the end", at, whole[:at])
	}
	refused("more", len(whole), append(slices.Clone(whole), 0))
	refused("a chunk less", body, slices.Delete(slices.Clone(whole), body, body+chunk))
}

// TestAgeOpensBackups: the age program decrypts our backups.
func TestAgeOpensBackups(t *testing.T) {
	program, err := exec.LookPath("age")
	if err != nil {
		t.Skip("age is not there")
	}
	identity, to := ageKey(t)
	path := filepath.Join(t.TempDir(), "b.age")
	write(t, path, to, func() {})
	out, err := exec.Command(program, "--decrypt", "--identity", identity, path).Output()
	if err != nil || !bytes.HasPrefix(out, []byte("PK")) {
		t.Errorf("%.20q, %v", out, err)
	}
}

func TestBrokenStreamLeavesNothing(t *testing.T) {
	_, to := ageKey(t)
	path := filepath.Join(t.TempDir(), "b.age")
	out, in := io.Pipe()
	go func() {
		s := backup.NewWriter(in)
		s.Begin(backup.Part{Kind: backup.KindRoles})
		in.CloseWithError(errors.New("the cable was pulled"))
	}()
	if _, err := backup.Create(path, backup.Backup{}, backup.NewReader(out), encryption(to)); err == nil {
		t.Error("a part of a stream is taken")
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

// FuzzUnlock: Unlock does not panic on any file.
func FuzzUnlock(f *testing.F) {
	f.Add([]byte(agefile.Header + "v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n--- Vn+54jqiiUCE+WZcEVY3f1sqHjlu/z1LCQ/T7Xm7qI0\n"))
	f.Add([]byte(agefile.Header))
	f.Add([]byte("PK"))
	path := filepath.Join(f.TempDir(), "b")
	x, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	identity := path + ".key"
	if err := os.WriteFile(identity, []byte(x.String()), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := Unlock(context.Background(), path, Keys{Identity: identity})
		if err != nil {
			return
		}
		if a, err := Open(path, key); err == nil {
			a.Close()
		}
	})
}
