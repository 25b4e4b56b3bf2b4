package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func certificate(t *testing.T, ca bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestCheck: the first authority is stored. A different authority, or a machine without one, is
// refused until the user accepts it. Each phone and machine has a separate entry.
func TestCheck(t *testing.T) {
	s := In(t.TempDir())
	first, second := certificate(t, true), certificate(t, true)
	for i, step := range []struct {
		phone, machine, shown string
		accept                bool
		mode                  string // empty: refused
	}{
		{"root@a:22", "sql", "", false, "disable"},
		{"root@a:22", "sql", first, false, "verify-full"},
		{"root@a:22", "sql", first, false, "verify-full"},
		{"root@a:22", "sql", second, false, ""},
		{"root@a:22", "sql", "", false, ""},
		{"root@a:22", "sql", first, false, "verify-full"},
		{"root@a_22", "sql", second, false, "verify-full"},
		{"root@a:22", "web", second, false, "verify-full"},
		{"root@a:22", "sql", second, true, "verify-full"},
		{"root@a:22", "sql", first, false, ""},
		{"root@a:22", "sql", "", true, "disable"},
		{"root@a:22", "sql", first, false, "verify-full"},
	} {
		client, err := s.Check(step.phone, step.machine, step.shown, step.accept)
		var changed *ChangedError
		if (step.mode == "") != errors.As(err, &changed) || err != nil && changed == nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "--accept-authority") || !strings.Contains(err.Error(), "sql on root@a:22") {
				t.Errorf("step %d: %v", i, err)
			}
			continue
		}
		if client.Mode() != step.mode {
			t.Errorf("step %d: %s, want %s", i, client.Mode(), step.mode)
		}
		if kept, _ := os.ReadFile(client.RootCert); string(kept) != step.shown {
			t.Errorf("step %d: %s holds %q", i, client.RootCert, kept)
		}
	}
	for what, shown := range map[string]string{"a server's certificate": certificate(t, false), "something else": "-----BEGIN"} {
		if _, err := s.Check("b", "sql", shown, true); err == nil {
			t.Errorf("%s is taken for an authority", what)
		}
	}
	if s.Known("root@a:22", "sql").RootCert == "" || s.Known("c", "sql").RootCert != "" {
		t.Error("what is known is not")
	}
	if err := errors.Join(s.Forget("root@a:22", "sql"), s.Forget("c", "sql")); err != nil || s.Known("root@a:22", "sql").RootCert != "" {
		t.Errorf("not forgotten: %v", err)
	}
}

// TestQuery: clients like libpq read the paths in a URL unchanged.
func TestQuery(t *testing.T) {
	address := netip.MustParseAddrPort("127.0.0.1:1")
	for _, name := range []string{"plain.crt", "with space+plus", "@%#/:?&='é", "100%25"} {
		dir := filepath.Join(t.TempDir(), "a %&#?")
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(certificate(t, true)), 0o644)); err != nil {
			t.Fatal(err)
		}
		query := Client{RootCert: path}.Query(address, url.Values{"passfile": {path}})
		if strings.ContainsAny(query, " +#") {
			t.Errorf("%s", query)
		}
		config, err := pgconn.ParseConfig("postgresql://postgres@127.0.0.1:1/postgres?" + query)
		if err != nil || config.TLSConfig == nil || config.TLSConfig.ServerName != "127.0.0.1" {
			t.Errorf("%s: %v", query, err)
		}
		values, err := url.ParseQuery(query)
		if err != nil || values.Get("sslrootcert") != path || values.Get("passfile") != path {
			t.Errorf("%s: %q, %v", query, values, err)
		}
	}
	if got := (Client{RootCert: "/a"}).Environment(address); !slices.Equal(got, []string{"PGPORT=1", "PGSSLMODE=verify-full", "PGSSLROOTCERT=/a", "PGHOST=127.0.0.1"}) {
		t.Errorf("%q", got)
	}
	if got := (Client{Encrypt: true}).Query(address, nil) + (Client{}).Query(address, nil); got != "sslmode=requiresslmode=disable" {
		t.Errorf("%q", got)
	}
}
