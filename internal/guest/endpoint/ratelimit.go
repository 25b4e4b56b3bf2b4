//go:build linux

package endpoint

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

const (
	// unauthenticatedBurst is how many consecutive unauthenticated requests get 401, plus one each
	// second; further ones get 429.
	unauthenticatedBurst = 10
	// unauthenticatedReport is the minimum interval between log lines about such requests.
	unauthenticatedReport = time.Minute
)

// A rateLimiter passes requests with the token on. It refuses the others and limits their rate;
// requests with the token are never limited.
type rateLimiter struct {
	want   [sha256.Size]byte
	now    func() time.Time
	report func(refused int)

	mu       sync.Mutex
	room     float64 // how many unauthenticated requests still get 401
	since    time.Time
	refused  int
	reported time.Time
}

// newRateLimiter returns a rate limiter that calls report with the number of refused requests, at
// most every unauthenticatedReport.
func newRateLimiter(token string, now func() time.Time, report func(refused int)) *rateLimiter {
	return &rateLimiter{
		want: sha256.Sum256([]byte("Bearer " + token)), now: now, report: report, room: unauthenticatedBurst, since: now(),
	}
}

// authorize passes requests with the token and a body within the limit to next. It compares
// digests, so that the time does not depend on the token or its length.
func (l *rateLimiter) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], l.want[:]) != 1 {
			l.refuse(w)
			return
		}
		if !prove(r.Context()) {
			http.Error(w, "too many connections", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == guestapi.PathRestore {
			next.ServeHTTP(w, r) // its body is a stream
			return
		}
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			http.Error(w, fmt.Sprintf("a request's body has at most %d bytes", maxBody), http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (l *rateLimiter) refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close") // another attempt needs another connection
	if !l.admit() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests without the token of this boot", http.StatusTooManyRequests)
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "the token of this boot is needed", http.StatusUnauthorized)
}

// admit counts an unauthenticated request and reports whether it is within the limit.
func (l *rateLimiter) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.room = min(l.room+max(now.Sub(l.since).Seconds(), 0), unauthenticatedBurst)
	l.since = now
	l.refused++
	if now.Sub(l.reported) >= unauthenticatedReport {
		l.reported = now
		l.report(l.refused)
	}
	if l.room < 1 {
		return false
	}
	l.room--
	return true
}

// unauthenticated is how many requests came without the token.
func (l *rateLimiter) unauthenticated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}
