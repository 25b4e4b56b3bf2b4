//go:build linux

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// beside runs fn in a goroutine of the test.
func beside(_ string, fn func()) { go fn() }

// logServer returns a journal in memory and a client of an endpoint that serves it.
func logServer(t testing.TB) (*journal.Journal, *guestapi.Client) {
	t.Helper()
	j := journal.New(beside)
	s := New(Config{
		Console: journal.NewConsole(io.Discard, time.Now), Journal: j, Token: token,
		Services: []guestspec.Service{{Name: "a"}, {Name: "silent"}},
	})
	return j, clientOf(t, s.handler(), token)
}

func TestLogsAreServed(t *testing.T) {
	j, client := logServer(t)
	for i := range 5 {
		j.Keep("a", fmt.Sprintf("%d line", i))
	}
	j.Flush(time.Minute)
	var b strings.Builder
	must(t, client.Logs(t.Context(), guestapi.LogQuery{Service: "a", Lines: 2}, &b))
	if b.String() != "3 line\n4 line\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	must(t, client.Logs(t.Context(), guestapi.LogQuery{Service: "silent", Lines: 2}, &b))
	if b.String() != "" {
		t.Errorf("a service that says nothing: %q", b.String())
	}
	if err := client.Logs(t.Context(), guestapi.LogQuery{Service: "stranger", Lines: 2}, &b); err == nil || !strings.Contains(err.Error(), "no service stranger") {
		t.Errorf("an unknown service: %v", err)
	}
	if err := client.Logs(t.Context(), guestapi.LogQuery{Service: "../init", Lines: 2}, &b); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a path: %v", err)
	}
}

// A sink sends what is written to it to a channel.
type sink chan string

func (s sink) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

func TestLogsAreFollowed(t *testing.T) {
	j, client := logServer(t)
	j.Keep("a", "1 before")
	j.Flush(time.Minute)
	// All places but one are in use. The test can then check that the reader's place is released.
	var others []*journal.Follower
	for {
		_, f, err := j.Follow("", 0)
		if errors.Is(err, journal.ErrTooManyFollowers) {
			break
		}
		must(t, err)
		others = append(others, f)
	}
	j.Leave(others[0])
	ctx, cancel := context.WithCancel(t.Context())
	got := make(sink, 100)
	done := make(chan error, 1)
	go func() { done <- client.Logs(ctx, guestapi.LogQuery{Service: "a", Lines: 10, Follow: true}, got) }()
	if line := <-got; line != "1 before\n" {
		t.Errorf("%q", line)
	}
	j.Keep("a", "2 after")
	if line := <-got; line != "2 after\n" {
		t.Errorf("%q", line)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a reader who leaves: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		_, last, err := j.Follow("", 0)
		if err == nil {
			j.Leave(last)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a reader who has left is a follower: %v", err)
		}
	}
}

func FuzzLogQuery(f *testing.F) {
	f.Add("service=postgres&lines=10&follow=1")
	f.Add("lines=-1")
	f.Add("service=..%2f..%2fetc&lines=1e9")
	j := journal.New(beside)
	j.Attach(f.TempDir(), nil)
	s := New(Config{Journal: j, Services: []guestspec.Service{{Name: "a"}}})
	f.Fuzz(func(t *testing.T, query string) {
		defer costtest.Text.Watch(t, len(query))()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a following reader has left already
		r := httptest.NewRequest(http.MethodGet, "/logs", nil).WithContext(ctx)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		s.serveLogs(w, r)
		if !slices.Contains([]int{200, 400, 404}, w.Code) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}
