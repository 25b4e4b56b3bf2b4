//go:build linux

package endpoint

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAuthorize(t *testing.T) {
	passed := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := httptest.NewServer(newRateLimiter(token, time.Now, func(int) {}).authorize(passed))
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

// TestUnauthenticatedRequestsAreLimited: requests without the token are refused, and limited after
// a burst. Requests with the token are never limited. The log has one line about them a minute.
func TestUnauthenticatedRequestsAreLimited(t *testing.T) {
	now, reported := time.Unix(1_800_000_000, 0), []int(nil)
	l := newRateLimiter(token, func() time.Time { return now }, func(n int) { reported = append(reported, n) })
	handler := l.authorize(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	ask := func(token string) int {
		r := httptest.NewRequest(http.MethodGet, "/status", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 1000 {
		want := http.StatusUnauthorized
		if i >= unauthenticatedBurst {
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
	if len(reported) != 2 || reported[0] != 1 || reported[1] != 1004 || l.unauthenticated() != 1004 {
		t.Errorf("reported %v, counted %d", reported, l.unauthenticated())
	}
}
