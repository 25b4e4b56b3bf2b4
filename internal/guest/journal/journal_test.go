//go:build linux

package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// beside runs fn in a goroutine of the test.
func beside(_ string, fn func()) { go fn() }

// lines returns the last n lines of a service.
func (j *Journal) lines(t *testing.T, service string, n int) []string {
	t.Helper()
	j.Flush(time.Minute)
	lines, err := j.Tail(service, n)
	must(t, err)
	return lines
}

func TestJournalOutlivesItsDisk(t *testing.T) {
	dir := t.TempDir()
	j := New(beside)
	j.Keep("init", "1 before the disk")
	j.Keep("a", "2 from a")
	if got := j.lines(t, "", 10); !slices.Equal(got, []string{"1 before the disk", "2 from a"}) {
		t.Errorf("in memory: %q", got)
	}
	j.Attach(dir, nil)
	j.Keep("b", "3 from b")
	j.Keep("a", "4 from a")
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
	j.Detach()
	j.Keep("a", "5 after it")
	if got := j.lines(t, "a", 10); !slices.Equal(got, []string{"5 after it"}) {
		t.Errorf("without its disk: %q", got)
	}
	// The next boot reads the lines of this one.
	again := New(beside)
	again.dir = dir
	if got := again.lines(t, "a", 10); !slices.Equal(got, []string{"2 from a", "4 from a"}) {
		t.Errorf("at the next boot: %q", got)
	}
}

// TestJournalWithoutRoom: a folder that cannot be written, as on a full disk, loses the lines.
// Nothing else fails.
func TestJournalWithoutRoom(t *testing.T) {
	j := New(beside)
	j.Attach(filepath.Join(t.TempDir(), "not there"), nil)
	_, f, err := j.Follow("", 10)
	must(t, err)
	j.Keep("a", "1 lost")
	j.Flush(time.Minute)
	if n := j.Lost(); n != 1 {
		t.Errorf("%d lines lost, want 1", n)
	}
	if line := <-f.Lines; line != "1 lost" {
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
	j := New(beside)
	var all []*Follower
	for range maxFollowers {
		_, f, err := j.Follow("a", 0)
		must(t, err)
		all = append(all, f)
	}
	if _, _, err := j.Follow("a", 0); !errors.Is(err, ErrTooManyFollowers) {
		t.Errorf("one more follower: %v", err)
	}
	for i := range followerLines + 10 {
		j.Keep("a", fmt.Sprint(i))
		j.Keep("b", "not for it")
		j.Flush(time.Minute)
	}
	f := all[0]
	if len(f.Lines) != followerLines || f.missed.Load() != 10 {
		t.Errorf("%d lines wait, %d are missed", len(f.Lines), f.missed.Load())
	}
	j.Leave(f)
	if _, f, err := j.Follow("a", 0); err != nil {
		t.Error(err)
	} else {
		j.Leave(f)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
