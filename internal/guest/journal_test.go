//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// beside runs fn in a goroutine of the test's.
func beside(_ string, fn func()) { go fn() }

// lines are what tail returns.
func (j *journal) lines(t *testing.T, service string, n int) []string {
	t.Helper()
	j.flush(time.Minute)
	lines, err := j.tail(service, n)
	must(t, err)
	return lines
}

func TestJournalOutlivesItsDisk(t *testing.T) {
	data := t.TempDir()
	j := newJournal(beside)
	j.keep("init", "1 before the disk")
	j.keep("a", "2 from a")
	if got := j.lines(t, "", 10); !slices.Equal(got, []string{"1 before the disk", "2 from a"}) {
		t.Errorf("in memory: %q", got)
	}
	must(t, j.attach(data))
	j.keep("b", "3 from b")
	j.keep("a", "4 from a")
	for service, want := range map[string][]string{
		"":     {"1 before the disk", "2 from a", "3 from b", "4 from a"},
		"a":    {"2 from a", "4 from a"},
		"b":    {"3 from b"},
		"none": nil,
	} {
		if got := j.lines(t, service, 10); !slices.Equal(got, want) {
			t.Errorf("of %q: %q, want %q", service, got, want)
		}
	}
	if got := j.lines(t, "", 2); !slices.Equal(got, []string{"3 from b", "4 from a"}) {
		t.Errorf("the last two: %q", got)
	}
	j.detach()
	j.keep("a", "5 after it")
	if got := j.lines(t, "a", 10); !slices.Equal(got, []string{"5 after it"}) {
		t.Errorf("without its disk: %q", got)
	}
	// Another boot finds what was written.
	again := newJournal(beside)
	again.dir = filepath.Join(data, journalDir)
	if got := again.lines(t, "a", 10); !slices.Equal(got, []string{"2 from a", "4 from a"}) {
		t.Errorf("at the next boot: %q", got)
	}
}

// A folder that takes nothing, as a full disk does, costs the lines and nothing else.
func TestJournalWithoutRoom(t *testing.T) {
	j := newJournal(beside)
	j.use(filepath.Join(t.TempDir(), "not there"))
	_, f, err := j.follow("", 10)
	must(t, err)
	j.keep("a", "1 lost")
	j.flush(time.Minute)
	if n := j.lost.Load(); n != 1 {
		t.Errorf("%d lines lost, want 1", n)
	}
	if line := <-f.lines; line != "1 lost" {
		t.Errorf("the follower got %q", line)
	}
}

func TestMergeKeepsEachLogsOrder(t *testing.T) {
	got := merge([][]string{{"1 a", "4 a", "2 a, the clock was set"}, {"3 b", "5 b"}, nil})
	if want := []string{"1 a", "3 b", "4 a", "2 a, the clock was set", "5 b"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestSlowFollowersMissLines(t *testing.T) {
	j := newJournal(beside)
	var all []*follower
	for range maxFollowers {
		_, f, err := j.follow("a", 0)
		must(t, err)
		all = append(all, f)
	}
	if _, _, err := j.follow("a", 0); !errors.Is(err, errTooMany) {
		t.Errorf("one more follower: %v", err)
	}
	for i := range followerLines + 10 {
		j.keep("a", fmt.Sprint(i))
		j.keep("b", "not for it")
		j.flush(time.Minute)
	}
	f := all[0]
	if len(f.lines) != followerLines || f.missed.Load() != 10 {
		t.Errorf("%d lines wait, %d are missed", len(f.lines), f.missed.Load())
	}
	j.leave(f)
	if _, f, err := j.follow("a", 0); err != nil {
		t.Error(err)
	} else {
		j.leave(f)
	}
}

// logServer is an endpoint with a journal in memory.
func logServer(t testing.TB) (*machine, *guestapi.Client, string) {
	t.Helper()
	m := &machine{journal: newJournal(beside), spec: guestspec.Config{Services: []guestspec.Service{{Name: "a"}, {Name: "silent"}}}}
	m.door = newDoorkeeper(token, time.Now, func(int) {})
	server := httptest.NewServer(m.door.authorize(m.routes()))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return m, guestapi.NewClient(netip.MustParseAddrPort(u.Host), token), server.URL
}

func TestLogsAreServed(t *testing.T) {
	m, client, _ := logServer(t)
	for i := range 5 {
		m.journal.keep("a", fmt.Sprintf("%d line", i))
	}
	m.journal.flush(time.Minute)
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

// sink hands on what is written to it.
type sink chan string

func (s sink) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

func TestLogsAreFollowed(t *testing.T) {
	m, client, _ := logServer(t)
	m.journal.keep("a", "1 before")
	m.journal.flush(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(sink, 100)
	done := make(chan error, 1)
	go func() { done <- client.Logs(ctx, guestapi.LogQuery{Service: "a", Lines: 10, Follow: true}, got) }()
	if line := <-got; line != "1 before\n" {
		t.Errorf("%q", line)
	}
	m.journal.keep("a", "2 after")
	if line := <-got; line != "2 after\n" {
		t.Errorf("%q", line)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a reader who leaves: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		m.journal.mu.Lock()
		left := len(m.journal.followers)
		m.journal.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d followers are left", left)
		}
	}
}

func FuzzLogQuery(f *testing.F) {
	f.Add("service=postgres&lines=10&follow=1")
	f.Add("lines=-1")
	f.Add("service=..%2f..%2fetc&lines=1e9")
	m := &machine{journal: newJournal(beside), spec: guestspec.Config{Services: []guestspec.Service{{Name: "a"}}}}
	m.journal.use(f.TempDir())
	f.Fuzz(func(t *testing.T, query string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // one who follows has left already
		r := httptest.NewRequest(http.MethodGet, "/logs", nil).WithContext(ctx)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		m.serveLogs(w, r)
		if !slices.Contains([]int{200, 400, 404}, w.Code) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}

// What services said is there after a restart of the machine, and no service can be read that is none.
func TestLogsSurviveARestart(t *testing.T) {
	b := newBox(t, sleeper("a"))
	v := b.boot(t)
	v.waitLine("out a: hello")
	v.waitReady()
	v.shutDown()
	v = b.boot(t)
	v.waitLine("out a: hello")
	v.waitReady()
	for _, tt := range []struct {
		path string
		code int
		want []string
	}{
		{"/logs?service=a", 200, []string{"out a: hello", "out a: bye", "info a: stopped", "info a: ready"}},
		{"/logs?service=init", 200, []string{"info init: starting", "shutting down reason=endpoint", "data disk mounted"}},
		{"/logs", 200, []string{"out a: hello", "info init: starting"}},
		{"/logs?service=b", 404, nil},
		{"/metrics", 200, []string{`sov_service_ready{service="a",state="ready"} 1`, "sov_log_lines_lost_total 0"}},
	} {
		code, body, err := v.request(http.MethodGet, tt.path, token, nil)
		if err != nil || code != tt.code {
			t.Errorf("%s: %d %v, want %d", tt.path, code, err, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s lacks %q:\n%s", tt.path, want, body)
			}
		}
	}
	_, body, err := v.request(http.MethodGet, "/logs?service=a&lines=10000", token, nil)
	if n := strings.Count(string(body), "out a: hello"); err != nil || n != 2 {
		t.Errorf("%d starts of the service are in its log, %v", n, err)
	}
	out, err := v.run("/bin/sh", "-c", "stat -c '%a %U' /data/log /data/log/a")
	if err != nil || out != "700 root\n600 root" {
		t.Errorf("the log's folder and file: %q, %v", out, err)
	}
	v.shutDown()
	b.wantCleanDisk(t)
}
