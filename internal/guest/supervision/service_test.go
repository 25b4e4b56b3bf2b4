//go:build linux

package supervision

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/schedule"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

func TestBackoff(t *testing.T) {
	r := guestspec.Restart{Backoff: guestspec.Duration(time.Second), MaxBackoff: guestspec.Duration(5 * time.Second)}
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 1 << 40: 5 * time.Second} {
		if got := backoff(r, failures); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
}

func TestPermanent(t *testing.T) {
	if permanent(nil) || permanent(errors.New("x")) || permanent(&process.ExitError{Program: "a", Status: 1 << 8}) {
		t.Error("an ordinary end counts as permanent")
	}
	if !permanent(&process.ExitError{Program: "a", Status: guestspec.ExitPermanent << 8}) {
		t.Error("exit status 78 does not count as permanent")
	}
}

// TestProbeHTTP: only a status below 400 makes a service ready.
func TestProbeHTTP(t *testing.T) {
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://192.0.2.1/") // an address that no host uses
		w.WriteHeader(status)
	})
	for _, server := range []*httptest.Server{httptest.NewServer(handler), httptest.NewTLSServer(handler)} {
		defer server.Close()
		for code, well := range map[int]bool{200: true, 204: true, 302: true, 399: true, 400: false, 404: false, 503: false} {
			status = code
			err := (&service{}).probeOnce(t.Context(), guestspec.Ready{HTTP: server.URL})
			if (err == nil) != well {
				t.Errorf("%d: %v", code, err)
			}
		}
	}
	if err := probeHTTP(t.Context(), "http://127.0.0.1:1/"); err == nil {
		t.Error("a closed port answers")
	}
}

// TestExitedIsNotReady: a service that ended while its check succeeded does not become ready.
func TestExitedIsNotReady(t *testing.T) {
	sup := New(Config{Console: journal.NewConsole(io.Discard, time.Now), Now: time.Now, Uptime: func() time.Duration { return 0 }, OnReady: func() {}},
		[]guestspec.Service{{Name: "a"}})
	ended := make(chan struct{})
	close(ended)
	if sup.services[0].setReady(t.Context(), ended) || sup.services[0].usable() {
		t.Error("it is ready")
	}
	if !sup.services[0].setReady(t.Context(), nil) || !sup.services[0].usable() {
		t.Error("one that runs is not ready")
	}
}

// TestScheduleFollowsTheClock: a scheduled service runs at once if the clock is set past its time.
// It runs earlier if the clock is set back.
func TestScheduleFollowsTheClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sup := New(Config{Console: journal.NewConsole(io.Discard, time.Now), Now: func() time.Time { return now }, OnReady: func() {}},
		[]guestspec.Service{{Name: "a", Schedule: "30 3 * * *"}})
	s := sup.services[0]
	times, err := schedule.Parse(s.spec.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if !s.untilTime(now.Add(-time.Minute), times) {
		t.Error("it waits for a time that is past")
	}
	now = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	s.cancel(errors.New("stop"))
	if s.untilTime(now.AddDate(1, 0, 0), times) {
		t.Error("it runs while it is to stop")
	}
	if next := s.state.Schedule.Next; next.Year() != 2025 || s.state.State != guestapi.StateScheduled {
		t.Errorf("the next run is %s, its state %s", next, s.state.State)
	}
}
