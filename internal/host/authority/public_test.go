//go:build linux

package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// A signer is an authority for tests.
type signer struct {
	t   *testing.T
	der *x509.Certificate
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	s := &signer{t: t}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	s.der, s.key = s.issue(about)
	return s
}

func (s *signer) issue(about *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	parent, by := about, key
	if s.der != nil {
		parent, by = s.der, s.key
	}
	der, err := x509.CreateCertificate(rand.Reader, about, parent, key.Public(), by)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return c, key
}

// server returns a certificate for names, and its key.
func (s *signer) server(names ...string) (certificate, key string) {
	s.t.Helper()
	c, private := s.issue(&x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names})
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		s.t.Fatal(err)
	}
	return text(c), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func text(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// TestPublic verifies a public authority's certificate for a name on a tailnet through another
// address, as the URL of `sov forward` and the variables of `sov psql` do. The server and psql are
// real. The machine's own authority must also have signed the name.
func TestPublic(t *testing.T) {
	const name = "sql.tail1.ts.net"
	own, public := newSigner(t), newSigner(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte(text(public.der)), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots)
	certificate, key := public.server(name)
	vouches, _ := own.server("sql", name)
	other, _ := own.server("sql")
	stranger, _ := newSigner(t).server(name)
	shown := &guestapi.PublicCertificate{Name: name, Authority: text(own.der), Own: vouches}
	s := In(t.TempDir())
	for what, own := range map[string]string{"another name": other, "another authority": stranger, "nothing": "", "half": "-----BEGIN"} {
		if _, err := s.CheckPublic("a", "sql", &guestapi.PublicCertificate{Name: name, Authority: shown.Authority, Own: own}, true); err == nil || !strings.Contains(err.Error(), "does not vouch") {
			t.Errorf("vouched for by %s: %v", what, err)
		}
	}
	const odd = "x@evil.example/db?sslmode=disable&"
	signed, _ := own.server(odd)
	if _, err := s.CheckPublic("a", "sql", &guestapi.PublicCertificate{Name: odd, Authority: shown.Authority, Own: signed}, true); err == nil || !strings.Contains(err.Error(), "is not a host name") {
		t.Errorf("a name that is none: %v", err)
	}
	changed := *shown
	changed.Authority = text(newSigner(t).der)
	if _, err := s.CheckPublic("a", "sql", &changed, false); !errors.As(err, new(*ChangedError)) {
		t.Errorf("another authority than before: %v", err)
	}
	client, err := s.CheckPublic("a", "sql", shown, false)
	if err != nil || client.Mode() != "verify-full" {
		t.Fatalf("%+v, %v", client, err)
	}
	// A later check without the tailnet's certificate accepts the same authority.
	if back, err := s.Check("a", "sql", shown.Authority, false); err != nil || back.Name != "" {
		t.Errorf("the own one again: %+v, %v", back, err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	postgrestest.Start(t, int(address.Port()), "listen_addresses = '127.0.0.1'\nssl = on\n"+postgrestest.Certificate(postgrestest.OwnFile(t, "server.pem", []byte(certificate+key))),
		"hostssl all all 127.0.0.0/8 scram-sha-256\n", nil)
	psql := func(c Client, byURL bool) string {
		t.Helper()
		command := exec.Command("psql", "-XAtwc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
		command.Env = append(os.Environ(), "PGPASSWORD="+postgrestest.Password)
		if byURL {
			command.Args = append(command.Args, "postgresql://app@"+c.Host(address)+"/app?"+c.Query(address, nil))
		} else {
			command.Env = append(command.Env, c.Environment(address)...)
			command.Env = append(command.Env, "PGUSER=app", "PGDATABASE=app")
		}
		out, _ := command.CombinedOutput()
		return string(bytes.TrimSpace(out))
	}
	for _, byURL := range []bool{true, false} {
		if got := psql(client, byURL); got != "t" {
			t.Errorf("by URL %t: %s", byURL, got)
		}
		wrong := client
		wrong.Name = "other.tail1.ts.net"
		if got := psql(wrong, byURL); !strings.Contains(got, "does not match host name") {
			t.Errorf("by URL %t, with another name: %s", byURL, got)
		}
		if got := psql(Client{RootCert: s.path("a", "sql")}, byURL); !strings.Contains(got, "certificate verify failed") {
			t.Errorf("by URL %t, by the own authority: %s", byURL, got)
		}
	}
}
