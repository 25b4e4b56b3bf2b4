//go:build linux

package guest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAuthorize(t *testing.T) {
	passed := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := httptest.NewServer(newDoorkeeper(token, time.Now, func(int) {}).authorize(passed))
	defer server.Close()
	for _, tt := range []struct {
		name, header string
		body         int
		want         int
	}{
		{"right", "Bearer " + token, 0, 200},
		{"body that fits", "Bearer " + token, maxBody, 200},
		{"body too long", "Bearer " + token, maxBody + 1, 413},
		{"none", "", 0, 401},
		{"no scheme", token, 0, 401},
		{"other scheme", "Basic " + token, 0, 401},
		{"prefix", "Bearer " + token[:31], 0, 401},
		{"longer", "Bearer " + token + "0", 0, 401},
		{"wrong, with a long body", "Bearer x", maxBody * 10, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader(strings.Repeat("x", tt.body)))
			must(t, err)
			if tt.header != "" {
				req.Header.Set("Authorization", tt.header)
			}
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%d, want %d", resp.StatusCode, tt.want)
			}
		})
	}
}

// Strangers are refused, and soon turned away; whoever has the token never is, and the log hears of it once a minute.
func TestStrangersAreTurnedAway(t *testing.T) {
	now, told := time.Unix(1_800_000_000, 0), []int(nil)
	d := newDoorkeeper(token, func() time.Time { return now }, func(n int) { told = append(told, n) })
	handler := d.authorize(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	ask := func(token string) int {
		r := httptest.NewRequest(http.MethodGet, "/status", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 1000 {
		want := http.StatusUnauthorized
		if i >= strangersAtOnce {
			want = http.StatusTooManyRequests
		}
		if got := ask("guess"); got != want {
			t.Fatalf("guess %d: %d, want %d", i+1, got, want)
		}
		if got := ask(token); got != http.StatusOK {
			t.Fatalf("with the token after %d guesses: %d", i+1, got)
		}
	}
	now = now.Add(2 * time.Second)
	for i, want := range []int{401, 401, 429} {
		if got := ask("guess"); got != want {
			t.Errorf("two seconds later, guess %d: %d, want %d", i+1, got, want)
		}
	}
	now = now.Add(time.Hour)
	ask("guess")
	if len(told) != 2 || told[0] != 1 || told[1] != 1004 || d.strangers() != 1004 {
		t.Errorf("told %v, counted %d", told, d.strangers())
	}
}

func TestRoutes(t *testing.T) {
	m := &machine{requests: make(chan string, 1)}
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/shutdown", 405},
		{"POST", "/status", 405},
		{"GET", "/", 404},
		{"GET", "/status/../shutdown", 307}, // cleaned, and then to be asked for anew
		{"POST", "/shutdown", 202},
		{"POST", "/shutdown", 202}, // twice is fine
	} {
		w := httptest.NewRecorder()
		m.routes().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
	if reason := <-m.requests; reason != "endpoint" {
		t.Errorf("reason %q", reason)
	}
}

func TestLimitedListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	limited := &limitedListener{Listener: l, slots: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted while the first is open")
	case <-time.After(20 * time.Millisecond):
	}
	first.Close()
	first.Close() // gives its place back once only
	second := <-accepted
	defer second.Close()
	if len(limited.slots) > 1 {
		t.Errorf("%d places are taken", len(limited.slots))
	}
}

func FuzzEndpoint(f *testing.F) {
	f.Add("GET", "/status", "Bearer x", "")
	f.Add("POST", "/shutdown", "", "{}")
	m := &machine{requests: make(chan string, 1)}
	handler := newDoorkeeper(token, time.Now, func(int) {}).authorize(m.routes())
	f.Fuzz(func(t *testing.T, method, path, header, body string) {
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
