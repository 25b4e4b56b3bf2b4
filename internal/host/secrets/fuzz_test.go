package secrets

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzStore reads a store with modified files: its recipients, its identity and a secret.
func FuzzStore(f *testing.F) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := agefile.Encrypt([]byte("value"), identity.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(identity.Recipient().String()+"\n"), []byte(identity.String()+"\n"), sealed)
	f.Add([]byte("# none\n"), []byte(""), []byte("plain"))
	f.Add([]byte("age1x"), []byte("AGE-SECRET-KEY-1"), []byte(agefile.Header+"\n-> X25519 x\n--- x\n"))
	dir := filepath.Join(f.TempDir(), "secrets")
	if err := os.MkdirAll(filepath.Join(dir, "sql"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, recipients, identity, secret []byte) {
		for name, content := range map[string][]byte{recipientsName: recipients, identityName: identity, "sql/postgres": secret} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		size := len(recipients) + len(identity) + len(secret)
		// Keys{} has no passphrase. Otherwise an identity file could make scrypt use much memory.
		s := Open(dir, Keys{})
		costtest.Text.Run(t, size, func() {
			all, err := s.All(context.Background(), "sql")
			if err == nil {
				costtest.Text.Output(t, size, int64(len(all["postgres"])))
			}
			if _, err := s.recipients(); err != nil {
				return
			}
			if _, err := s.List("sql"); err != nil {
				t.Error(err)
			}
		})
	})
}
