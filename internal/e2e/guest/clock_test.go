package guest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A wall is the host's wall clock, which a test moves.
type wall struct{ ahead atomic.Int64 }

func (w *wall) now() time.Time       { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *wall) move(d time.Duration) { w.ahead.Add(int64(d)) }

// off returns how far t is outside the interval from before, an earlier time of the wall, to now.
func (w *wall) off(t, before time.Time) time.Duration { return guesttest.Outside(t, before, w.now()) }

// TestClock starts guests with wrong clock chips, and suspends the host for an hour. Each time the
// guest must have the host's time at once and verify certificates that are valid for minutes.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		chip time.Time
	}{
		{"1970", time.Unix(0, 0)},
		{"an hour ahead", time.Now().Add(time.Hour)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := &wall{}
			g := guesttest.Boot(t, localvm.Options{Artifact: sovtest.Artifact(t, "arm64"), State: guesttest.Seeded(t, "arm64"), ClockChip: tt.chip, Now: host.now, Egress: true})
			checkTime(t, g, host, "at first")
			clock := kept(t, g)
			if clock.Source != "port" || !strings.HasPrefix(clock.Server, "/dev/vport") || clock.Fault != "" {
				t.Errorf("the clock is kept by %+v", clock)
			}

			host.move(time.Hour) // the guest was suspended meanwhile
			if clock, err := g.LookAtClock(t.Context()); err != nil || clock.Offset < 3590 || clock.Offset > 3610 || clock.Fault != "" {
				t.Errorf("after an hour's sleep: %+v, %v", clock, err)
			}
			checkTime(t, g, host, "after an hour's sleep")

			before := serverTime(t, g)
			host.move(-time.Hour)
			clock, err := g.LookAtClock(t.Context())
			if err != nil || !strings.Contains(clock.Fault, "ahead") {
				t.Errorf("an hour ahead while it runs: %+v, %v", clock, err)
			}
			if after := serverTime(t, g); after.Before(before) {
				t.Errorf("the clock was set back from %s to %s", before, after)
			}
			if got := g.One(t, "select sum(n) from generate_series(1, 1000) n"); got != "500500" {
				t.Errorf("PostgreSQL counts to %s", got)
			}
			g.Stop(t)
			// On a busy computer, a cancelled status request leaves a session without its client. If
			// it is still logging in when the clock is set forward, its time is over.
			log := strings.NewReplacer("FATAL:  connection to client lost", "", "FATAL:  canceling authentication due to timeout", "").Replace(g.Log(t))
			if strings.Contains(log, "PANIC") || strings.Contains(log, "FATAL") {
				t.Errorf("the clock did PostgreSQL no good:\n%s", log)
			}
		})
	}
}

// kept waits until a time source has answered the guest, and returns the guest's clock.
func kept(t *testing.T, g *guesttest.Guest) *guestapi.Clock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	for {
		status, err := g.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Clock != nil && !status.Clock.LastSync.IsZero() {
			return status.Clock
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the clock is not synchronized: %+v", status.Clock)
		}
	}
}

func checkTime(t *testing.T, g *guesttest.Guest, host *wall, when string) {
	t.Helper()
	asked := host.now()
	status, err := g.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if off := host.off(status.Time, asked); off > guesttest.ClockLimit {
		t.Errorf("%s the guest's clock is off by %v", when, off)
	}
	asked = host.now()
	if off := host.off(serverTime(t, g), asked); off > guesttest.ClockLimit {
		t.Errorf("%s PostgreSQL's clock is off by %v", when, off)
	}
	if said := verifyTLS(t, g, host.now()); !strings.Contains(said, tlsGreeting) {
		t.Errorf("%s a certificate of this hour is not accepted: %s", when, said)
	}
	if said := verifyTLS(t, g, host.now().Add(-30*time.Minute)); !strings.Contains(said, "certificate verify failed") {
		t.Errorf("%s a certificate that has expired is accepted: %s", when, said)
	}
}

func serverTime(t *testing.T, g *guesttest.Guest) time.Time {
	t.Helper()
	text := g.One(t, "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// tlsGreeting is the server's message after the client has verified it.
const tlsGreeting = "the certificate was accepted"

// verifyTLS connects the guest's psql to a server on the host and returns psql's output. The
// server's certificate is valid for ten minutes before and after at.
func verifyTLS(t *testing.T, g *guesttest.Guest, at time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: at.Add(-10 * time.Minute), NotAfter: at.Add(10 * time.Minute),
		IPAddresses: []net.IP{net.IPv4(192, 168, 100, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // the guest reaches it at the host's address
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go refuseAfterTLS(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	port := l.Addr().(*net.TCPAddr).Port
	lines := g.Shell(t, fmt.Sprintf("echo '%s' >/tmp/ca.pem; psql 'host=192.168.100.1 port=%d user=x dbname=x connect_timeout=60 sslmode=verify-full sslrootcert=/tmp/ca.pem' 2>&1; true",
		authority, port))
	return strings.Join(lines, "; ")
}

// refuseAfterTLS implements enough of a PostgreSQL server (its manual, "Message Flow") to reject a
// client over a verified connection.
func refuseAfterTLS(l net.Listener, config *tls.Config) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil { // SSLRequest
		return
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return
	}
	secure := tls.Server(conn, config)
	if _, err := secure.Read(make([]byte, 1000)); err != nil { // StartupMessage
		return
	}
	fields := "SFATAL\x00C28000\x00M" + tlsGreeting + "\x00\x00"
	message := append([]byte{'E', 0, 0, 0, byte(4 + len(fields))}, fields...)
	secure.Write(message)
	secure.Close()
}
