//go:build linux

package endpoint

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// clientOf returns a client of a server whose handler is h.
func clientOf(t testing.TB, h http.Handler, token string) *guestapi.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	must(t, err)
	return guestapi.NewClient(netip.MustParseAddrPort(u.Host), token)
}

// TestRefusedSessions checks the errors of refused sessions. Package boot tests sessions with the
// real init.
func TestRefusedSessions(t *testing.T) {
	console := journal.NewConsole(io.Discard, time.Now)
	with := func(shell bool) *Server {
		return New(Config{Console: console, Token: token, Shell: shell, Path: "/bin"})
	}
	ended := with(true)
	ended.EndSessions()
	full := with(true)
	for range maxSessions {
		full.sessions.slots <- struct{}{}
	}
	for name, c := range map[string]struct {
		handler http.Handler
		token   string
		want    string
	}{
		"without the token": {with(true).handler(), "guessed", "the token of this boot is needed"},
		"left out":          {with(false).handler(), token, guestapi.NoShell},
		"shutting down":     {ended.handler(), token, "the machine shuts down"},
		"too many":          {full.handler(), token, "8 sessions are open, which is the limit: end one of them"},
		"older":             {http.NotFoundHandler(), token, guestapi.ErrNoSessions.Error()},
	} {
		if _, err := clientOf(t, c.handler, c.token).Session(t.Context()); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := clientOf(t, http.NotFoundHandler(), token).Session(t.Context()); !errors.Is(err, guestapi.ErrNoSessions) {
		t.Errorf("older: %v", err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, guestapi.PathSession, nil)
	r.Header.Set("Upgrade", "websocket")
	with(true).routes().ServeHTTP(w, r)
	if w.Code != http.StatusUpgradeRequired || w.Header().Get("Upgrade") != session.Protocol {
		t.Errorf("another protocol: %d, %v", w.Code, w.Header())
	}
}

// TestSessionIsRefusedInWords: an invalid command ends its session with the reason.
func TestSessionIsRefusedInWords(t *testing.T) {
	s := New(Config{Console: journal.NewConsole(io.Discard, time.Now), Token: token, Shell: true, Path: t.TempDir()})
	client := clientOf(t, s.handler(), token)
	for want, c := range map[string]struct {
		start  session.Start
		status int
	}{
		`user "../etc": not a user's name`:   {session.Start{User: "../etc"}, session.StatusNotExecutable},
		"an argument holds a zero byte":      {session.Start{Command: []string{"a", "\x00"}}, session.StatusNotExecutable},
		"frobnicate: file does not exist in": {session.Start{Command: []string{"frobnicate"}}, session.StatusNotFound},
	} {
		conn, err := client.Session(t.Context())
		must(t, err)
		streams := session.Streams{In: strings.NewReader(""), Out: io.Discard, Errors: io.Discard}
		exit, err := session.Run(t.Context(), session.NewConn(conn, conn, conn.Close), c.start, streams)
		if err != nil || exit.Status != c.status || !strings.Contains(exit.Fault, want) {
			t.Errorf("%+v, %v; want %d %q", exit, err, c.status, want)
		}
	}
}
