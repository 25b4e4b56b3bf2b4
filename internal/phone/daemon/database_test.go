package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
)

// selfSigned returns a server's certificate that expires at notAfter.
func selfSigned(t *testing.T, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sovereign-sql"}, NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	raw, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// serve answers the first connection.
func serve(t *testing.T, answer func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.ReadFull(conn, make([]byte, len(sslRequest)))
		answer(conn)
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestProbeDatabase(t *testing.T) {
	until := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC) // past or future: it is only reported
	certificate := selfSigned(t, until)
	for name, tt := range map[string]struct {
		answer func(net.Conn)
		want   *health.Certificate
		fault  string
	}{
		"without TLS": {func(c net.Conn) { io.WriteString(c, "N") }, nil, ""},
		"with TLS": {func(c net.Conn) {
			io.WriteString(c, "S")
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
			io.Copy(io.Discard, c)
		}, &health.Certificate{Subject: "CN=sovereign-sql", NotBefore: until.Add(-time.Hour), NotAfter: until}, ""},
		"TLS that ends":  {func(c net.Conn) { io.WriteString(c, "S") }, nil, "TLS with the server"},
		"another server": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400") }, nil, "is not PostgreSQL"},
		"no answer":      {func(net.Conn) {}, nil, "ask the server"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := probeDatabase(t.Context(), serve(t, tt.answer))
			if tt.fault == "" && err != nil || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("error %v, want %q", err, tt.fault)
			}
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDatabaseAt(t *testing.T) {
	m := health.New("sql")
	m.AddGuest(&guestapi.Status{Postgres: &guestapi.Postgres{}, Tailnet: &guestapi.Tailnet{Addresses: []string{"fd7a:115c:a1e0::1", "100.64.0.3", "10.0.0.1", "?"}}})
	databaseAt(m, netip.MustParseAddrPort("192.168.100.2:5432"))
	want := []netip.AddrPort{netip.MustParseAddrPort("100.64.0.3:5432"), netip.MustParseAddrPort("[fd7a:115c:a1e0::1]:5432")}
	if m.Database.Address.Port() != 5432 || len(m.Database.Tailnet) != 2 || m.Database.Tailnet[0] != want[0] || m.Database.Tailnet[1] != want[1] {
		t.Errorf("%+v", m.Database)
	}
}

func TestNoteBackup(t *testing.T) {
	root, vm := machineIn(t)
	if b, err := lastBackup(vm); b != nil || err != nil {
		t.Errorf("before the first: %v, %v", b, err)
	}
	if err := NoteBackup(root, "sql", strings.NewReader("{")); err == nil {
		t.Error("half an object is taken")
	}
	before := time.Now().Add(-time.Second)
	if err := NoteBackup(root, "sql", strings.NewReader(`{"at": "2001-01-01T00:00:00Z", "size": 7, "databases": ["shop"]}`)); err != nil {
		t.Fatal(err)
	}
	b, err := lastBackup(vm)
	if err != nil || b.Size != 7 || len(b.Databases) != 1 || b.At.Before(before) {
		t.Errorf("%+v, %v", b, err)
	}
}
