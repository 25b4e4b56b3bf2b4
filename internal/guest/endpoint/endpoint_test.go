//go:build linux

package endpoint

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const (
	token = "0123456789abcdef0123456789abcdef"
	// patience bounds every wait for an event that happens within moments, on a busy computer.
	patience = 2 * time.Minute
)

// A fakeMachine records requests for a shutdown. Its other methods must not be called.
type fakeMachine struct {
	Machine
	requests chan string
}

// RequestShutdown implements Machine.
func (m *fakeMachine) RequestShutdown(reason string) { m.requests <- reason }

func TestRoutes(t *testing.T) {
	m := &fakeMachine{requests: make(chan string, 2)}
	s := New(Config{Machine: m})
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/shutdown", 405},
		{"POST", "/status", 405},
		{"GET", "/", 404},
		{"GET", "/status/../shutdown", 307}, // cleaned, and redirected
		{"POST", "/shutdown", 202},
		{"POST", "/shutdown", 202}, // repeating it is allowed
	} {
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
	if reason := <-m.requests; reason != "endpoint" {
		t.Errorf("reason %q", reason)
	}
}

func FuzzEndpoint(f *testing.F) {
	f.Add("GET", "/status", "Bearer x", "")
	f.Add("POST", "/shutdown", "", "{}")
	console := journal.NewConsole(io.Discard, time.Now)
	handler := New(Config{Machine: &fakeMachine{}, Console: console, Token: token}).handler()
	f.Fuzz(func(t *testing.T, method, path, header, body string) {
		defer costtest.Text.Watch(t, len(method)+len(path)+len(header)+len(body))()
		req, err := http.NewRequest(method, "http://guest"+path, io.NopCloser(strings.NewReader(body)))
		if err != nil || strings.Contains(header, token) {
			return
		}
		req.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusTooManyRequests {
			t.Errorf("%d without the token", w.Code)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
