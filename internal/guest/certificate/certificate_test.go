//go:build linux

package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// A bench is a keeper whose clock and names a test sets.
type bench struct {
	*Keeper
	now      time.Time
	names    []string
	said     []string
	reloaded []string
}

func newBench(t *testing.T, services ...guestspec.Service) *bench {
	t.Helper()
	b := &bench{now: time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC), names: []string{"sql", "localhost", "127.0.0.1", "::1"}}
	b.Keeper = &Keeper{
		Dir: filepath.Join(t.TempDir(), "tls"), Machine: "sql", Services: services,
		Now:    func() time.Time { return b.now },
		Names:  func(context.Context) []string { return b.names },
		Reload: func(service string) { b.reloaded = append(b.reloaded, service) },
		Log:    func(text string) { b.said = append(b.said, text) },
	}
	return b
}

func service(t *testing.T) guestspec.Service {
	return guestspec.Service{Name: "postgres", User: "root", Certificate: filepath.Join(t.TempDir(), "given", "server.pem")}
}

// check runs Check and returns its log lines.
func (b *bench) check(t *testing.T) string {
	t.Helper()
	b.said = nil
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return strings.Join(b.said, "\n")
}

// given verifies the service's certificate for each name as a client would at the keeper's time.
func (b *bench) given(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	p, err := read(b.Services[0].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(b.Authority())) {
		t.Fatal("the authority is not a certificate")
	}
	for _, name := range names {
		if _, err := p.certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: b.now}); err != nil {
			t.Errorf("as %s at %s: %v", name, b.now, err)
		}
	}
	return p.certificate
}

// TestLife simulates years of a machine. The authority stays the same. Certificates are replaced
// before they expire, also across restarts and jumps of the clock.
func TestLife(t *testing.T) {
	b := newBench(t, service(t))
	if said := b.check(t); !strings.Contains(said, "authority was made") || !strings.Contains(said, "a certificate was made, valid until 2027-11-27") {
		t.Errorf("the first start says %q", said)
	}
	first, authority := b.given(t, "sql", "localhost", "127.0.0.1", "::1"), b.Authority()
	for name, mode := range map[string]os.FileMode{filepath.Join(b.Dir, authorityFile): 0o600, filepath.Join(b.Dir, serverFile): 0o600, b.Services[0].Certificate: 0o600, b.Dir: 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	steps := []struct {
		name string
		do   func()
		says string // empty: nothing happens
	}{
		{"nothing", func() {}, ""},
		{"half a life", func() { b.now = b.now.Add(life / 2) }, ""},
		{"two thirds", func() { b.now = b.now.Add(life / 5) }, "two thirds"},
		{"clock far ahead", func() { b.now = b.now.AddDate(30, 0, 0) }, "it has expired"},
		{"clock back", func() { b.now = first.NotBefore.AddDate(0, 0, 2) }, "it is not valid yet"},
		{"clock before the machine was made", func() { b.now = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC) }, "it is not valid yet"},
		{"a tailnet", func() { b.names = append(b.names, "sql.tail1.ts.net", "100.64.0.7") }, "it lacks the name sql.tail1.ts.net"},
		{"no tailnet", func() { b.names = b.names[:4] }, ""},
		{"restart with an empty memory", func() { os.RemoveAll(filepath.Dir(b.Services[0].Certificate)) }, ""},
		{"a torn certificate", func() { os.WriteFile(filepath.Join(b.Dir, serverFile), []byte("-----BEGIN CERT"), 0o600) }, "does not hold"},
	}
	for _, step := range steps {
		step.do()
		b.reloaded = nil
		said := b.check(t)
		if (said == "") != (step.says == "") || !strings.Contains(said, step.says) {
			t.Errorf("%s: it says %q, want %q", step.name, said, step.says)
		}
		if len(b.reloaded) != 1 && (said != "" || strings.HasPrefix(step.name, "restart")) || len(b.reloaded) != 0 && said == "" && !strings.HasPrefix(step.name, "restart") {
			t.Errorf("%s: reloaded %q", step.name, b.reloaded)
		}
		b.given(t, b.names...)
		if b.Authority() != authority {
			t.Fatalf("%s: there is another authority", step.name)
		}
	}
	if err := os.WriteFile(filepath.Join(b.Dir, authorityFile), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := b.check(t); !strings.Contains(said, "authority.pem.unreadable, and a new one is made") || b.Authority() == authority {
		t.Errorf("an authority that cannot be read: %q", said)
	}
	b.given(t, b.names...)
	if kept, err := os.ReadFile(filepath.Join(b.Dir, authorityFile+".unreadable")); err != nil || string(kept) != "nothing" {
		t.Errorf("it is not kept: %q, %v", kept, err)
	}
}

// TestRenewalUnderLoad renews the certificate of a real server. Existing sessions continue, and new
// ones get the new certificate. psql and pgx verify both certificates.
func TestRenewalUnderLoad(t *testing.T) {
	s := service(t)
	s.User = "postgres"
	dir, err := os.MkdirTemp("", "tls") // not t.TempDir: postgres must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	s.Certificate = filepath.Join(dir, "given", "server.pem")
	b := newBench(t, s)
	b.now = time.Now().Add(-life / 10 * 7)
	b.check(t)
	root := filepath.Join(dir, "authority.crt")
	if err := os.WriteFile(root, []byte(b.Authority()), 0o644); err != nil {
		t.Fatal(err)
	}
	server := postgrestest.Start(t, freePort(t), fmt.Sprintf("listen_addresses = '127.0.0.1'\nssl = on\nssl_cert_file = '%s'\nssl_key_file = '%[1]s'\n", s.Certificate),
		"hostssl all all 127.0.0.0/8 scram-sha-256\n", nil)
	b.Reload = func(string) { server.Signal(syscall.SIGHUP) }
	shown := func() *x509.Certificate {
		t.Helper()
		return certificateAt(t, fmt.Sprintf("127.0.0.1:%d", server.Port), b.Authority())
	}
	before := shown()
	url := fmt.Sprintf("postgresql://app@127.0.0.1:%d/app?sslmode=verify-full&sslrootcert=%s", server.Port, root)
	connect := func() *pgconn.PgConn {
		t.Helper()
		config, err := pgconn.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		config.Password = postgrestest.Password
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	psql := func() {
		t.Helper()
		c := exec.Command("psql", "-XAtwc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", url)
		c.Env = append(os.Environ(), "PGPASSWORD="+postgrestest.Password)
		if out, err := c.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "t" {
			t.Errorf("psql: %s %v", out, err)
		}
	}
	psql()
	old := connect()
	stop, done := make(chan struct{}), sync.WaitGroup{}
	queries := 0
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := old.Exec(context.Background(), "select 1").ReadAll(); err != nil {
				t.Errorf("a session that was open: %v", err)
				return
			}
			queries++
		}
	})
	b.now = time.Now()
	if said := b.check(t); !strings.Contains(said, "two thirds") {
		t.Fatalf("not renewed: %q", said)
	}
	for deadline := time.Now().Add(20 * time.Second); shown().Equal(before); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("new sessions see the old certificate")
		}
	}
	after := queries
	connect()
	psql()
	close(stop)
	done.Wait()
	if queries == 0 || after > queries {
		t.Error("the open session did nothing")
	}
	if _, err := old.Exec(t.Context(), "select 1").ReadAll(); err != nil {
		t.Errorf("a session that was open before: %v", err)
	}
	if err := server.LogIn("app", postgrestest.Password, "127.0.0.1", nil); err == nil {
		t.Error("a client without TLS is let in where hostssl is asked for")
	}
}

// certificateAt returns the certificate that a PostgreSQL server presents to a client which trusts
// authority.
func certificateAt(t *testing.T, address, authority string) *x509.Certificate {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)) // SSLRequest
	if answer := make([]byte, 1); true {
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
			t.Fatalf("the server offers no TLS: %q, %v", answer, err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority))
	client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0]
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// FuzzParse: parse does not panic on a damaged file of the data disk.
func FuzzParse(f *testing.F) {
	authority, err := newAuthority("sql")
	if err != nil {
		f.Fatal(err)
	}
	text, err := authority.pem()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(slices.Concat(text, text))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := parse(text); err == nil && (p.certificate == nil || p.key == nil) {
			t.Error("half a pair")
		}
	})
}
