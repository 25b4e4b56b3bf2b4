//go:build linux

package guest

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
	// As many requests without the token are looked at in a row, and one more each second; further ones are turned away.
	strangersAtOnce = 10
	// strangersTold is how often the log says that there are some.
	strangersTold = time.Minute
)

// A doorkeeper lets those in who have the token. Those who have not are refused, and after some of them turned away; that
// never concerns whoever has it.
type doorkeeper struct {
	want [sha256.Size]byte
	now  func() time.Time
	tell func(refused int)

	mu      sync.Mutex
	room    float64 // strangers that may still be looked at
	since   time.Time
	refused int
	told    time.Time
}

// newDoorkeeper returns one who tells now and then how many strangers there have been.
func newDoorkeeper(token string, now func() time.Time, tell func(refused int)) *doorkeeper {
	return &doorkeeper{want: sha256.Sum256([]byte("Bearer " + token)), now: now, tell: tell, room: strangersAtOnce, since: now()}
}

// authorize lets those requests through to next that carry the token and no more body than they may. Digests are
// compared, so that the time taken says nothing of the token or its length.
func (d *doorkeeper) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], d.want[:]) != 1 {
			d.refuse(w)
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

func (d *doorkeeper) refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close") // whoever comes again takes the trouble of another connection
	if !d.admit() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests without the token of this boot", http.StatusTooManyRequests)
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "the token of this boot is needed", http.StatusUnauthorized)
}

// admit counts a stranger and reports whether there is room for one.
func (d *doorkeeper) admit() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	d.room = min(d.room+max(now.Sub(d.since).Seconds(), 0), strangersAtOnce)
	d.since = now
	d.refused++
	if now.Sub(d.told) >= strangersTold {
		d.told = now
		d.tell(d.refused)
	}
	if d.room < 1 {
		return false
	}
	d.room--
	return true
}

// strangers is how many requests came without the token.
func (d *doorkeeper) strangers() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}
