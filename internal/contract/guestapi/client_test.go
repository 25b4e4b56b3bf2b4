package guestapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// TestRedirect: the client runs as root on the phone. It must not follow a guest's redirect to
// another server there, because the request has the token.
func TestRedirect(t *testing.T) {
	phones := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the phone's server is asked for %s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer phones.Close()
	guest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, phones.URL+"/admin", http.StatusTemporaryRedirect)
	}))
	defer guest.Close()
	c := NewClient(netip.MustParseAddrPort(guest.Listener.Addr().String()), "c4n4ry")
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("status: %v", err)
	}
	if err := c.Shutdown(t.Context()); err == nil {
		t.Error("a redirect is an agreement")
	}
	if err := c.Logs(t.Context(), LogQuery{}, io.Discard); err == nil {
		t.Error("a redirect is a log")
	}
}

// FuzzClient reads a guest's responses, with their headers.
func FuzzClient(f *testing.F) {
	ok := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
	for _, seed := range []string{ok + "{}", ok + `{"ready":true,"services":[{"name":"x"}]}`, ok + "[[[[", "HTTP/1.1 500 x\r\n\r\n" + strings.Repeat("x", 5000),
		"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1/\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"} {
		f.Add([]byte(seed))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { listener.Close() })
	answers := make(chan []byte)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			conn.Write(<-answers)
			conn.Close()
		}
	}()
	c := NewClient(netip.MustParseAddrPort(listener.Addr().String()), "token")
	f.Fuzz(func(t *testing.T, answer []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, ask := range []func() error{
			func() error { _, err := c.Status(ctx); return err },
			func() error { _, err := c.LookAtClock(ctx); return err },
			func() error { return c.Logs(ctx, LogQuery{}, io.Discard) },
		} {
			costtest.Text.Run(t, len(answer), func() {
				done := make(chan error, 1)
				go func() { done <- ask() }()
				answers <- answer
				if err := <-done; err != nil && len(err.Error()) > 4*maxComplaint+maxHeader {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
			})
		}
	})
}

func TestPause(t *testing.T) {
	const least = 50 * time.Millisecond
	for took, want := range map[time.Duration]time.Duration{
		0: least, time.Millisecond: least, 100 * time.Millisecond: 900 * time.Millisecond, 10 * time.Second: 2 * time.Second,
	} {
		if got := Pause(least, took); got != want {
			t.Errorf("after %v: %v, want %v", took, got, want)
		}
	}
	if got := Pause(5*time.Second, time.Second); got != 5*time.Second {
		t.Errorf("a longer pause became %v", got)
	}
}
