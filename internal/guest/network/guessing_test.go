//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/vishvananda/netns"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// The settings of a machine that limit guesses, as in stages/postgres and assets/postgresql.conf.
const (
	settingsBefore = "listen_addresses = '192.168.100.2'\nmax_connections = 50\nsuperuser_reserved_connections = 3\n"
	settingsNow    = settingsBefore + "authentication_timeout = 10s\nshared_preload_libraries = 'auth_delay'\nauth_delay.milliseconds = 500ms\n"
	rateNow        = 3
)

// TestGuessing: an attacker on a network guesses the password of app with 16 connections at a time.
// Then the attacker holds as many silent connections as possible. Each time the host logs in as the
// superuser.
func TestGuessing(t *testing.T) {
	const span = 3 * time.Second
	rates := map[string]float64{}
	for name, tt := range map[string]struct {
		settings string
		rate     uint32
	}{"before": {settingsBefore, 0}, "now": {settingsNow, rateNow}} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t)
			s := postgrestest.Start(t, 5432, tt.settings, "host all all all scram-sha-256\n", func() error { return netns.Set(l.guest) })
			f := Firewall{Link: "enp7s0", Subnet: netip.MustParsePrefix("192.168.100.2/24"), Gateway: netip.MustParseAddr("192.168.100.1"),
				Open: []guestspec.Opening{{Protocol: "tcp", Port: 5432, On: "link", From: []string{"subnet"}, PerSecond: tt.rate}}}
			must(t, netnstest.In(l.guest, f.Apply))
			guesses := l.guess(s, span)
			rates[name] = float64(guesses) / span.Seconds()
			t.Logf("%.1f guesses a second", rates[name])
			l.wantHost(t, s, "after guesses", true)
			held := l.holdSilently(t, 100)
			l.wantHost(t, s, fmt.Sprintf("beside %d silent connections", held), tt.rate != 0)
		})
	}
	if most := float64(guestspec.OpeningBurst)/span.Seconds() + rateNow + 1; rates["now"] > most || rates["before"] < 2*most {
		t.Errorf("%.1f guesses a second before, %.1f now, want at most %.1f", rates["before"], rates["now"], most)
	}
}

// guess tries wrong passwords for span, and returns how many the server has refused.
func (l *link) guess(s *postgrestest.Server, span time.Duration) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	var refused atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for ctx.Err() == nil {
				err := s.LogIn("app", "a guess", "192.168.100.2", l.from("192.168.100.3", ctx))
				if said, ok := asServer(err); ok && said.Code == "28P01" && ctx.Err() == nil { // invalid_password
					refused.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return refused.Load()
}

// from connects from an address of the host. The connection is closed when the context until ends.
func (l *link) from(address string, until context.Context) pgconn.DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		conn, err := l.dial(until, address, patience)
		if err == nil {
			context.AfterFunc(until, func() { conn.Close() })
		}
		return conn, err
	}
}

// dial connects to the database from an address of the host.
func (l *link) dial(ctx context.Context, from string, limit time.Duration) (conn net.Conn, err error) {
	err = netnstest.In(l.host, func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: limit}
		conn, err = d.DialContext(ctx, "tcp", "192.168.100.2:5432")
		return err
	})
	return conn, err
}

// wantHost logs in as the superuser from the host's address. Without room the server must refuse
// the login.
func (l *link) wantHost(t *testing.T, s *postgrestest.Server, when string, room bool) {
	t.Helper()
	start := time.Now()
	err := s.LogIn("postgres", postgrestest.Password, "192.168.100.2", l.from("192.168.100.1", t.Context()))
	if said, ok := asServer(err); room && err != nil || !room && (!ok || said.Code != "53300") { // too_many_connections
		t.Errorf("%s: the host logs in: %v, want room: %t", when, err, room)
	}
	t.Logf("%s: the host's login: %v, after %v", when, err, time.Since(start).Round(time.Millisecond))
}

func asServer(err error) (*pgconn.PgError, bool) {
	var said *pgconn.PgError
	return said, errors.As(err, &said)
}

// holdSilently keeps up to most connections open at once, and sends only the startup message on
// each. It returns how many are open when the server closes the first of them. New connections
// follow until the test ends.
func (l *link) holdSilently(t *testing.T, most int) int64 {
	t.Helper()
	hello, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "app", "database": "app"}}).Encode(nil)
	must(t, err)
	var held atomic.Int64
	var workers sync.WaitGroup
	ended := make(chan struct{}, 1) // by the server
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); workers.Wait() })
	hold := func() {
		conn, err := l.dial(ctx, "192.168.100.3", refusal)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if _, err := conn.Write(hello); err != nil {
			return
		}
		held.Add(1)
		defer held.Add(-1)
		io.Copy(io.Discard, conn)
		if ctx.Err() == nil {
			select {
			case ended <- struct{}{}:
			default: // another goroutine has reported it
			}
		}
	}
	for range most {
		workers.Go(func() {
			for ctx.Err() == nil {
				hold()
			}
		})
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server ends no connection")
	}
	return held.Load()
}
