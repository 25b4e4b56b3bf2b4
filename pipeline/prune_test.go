package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A manualClock changes only when a test moves it, and never ticks.
type manualClock struct{ now time.Time }

func (c *manualClock) Now() time.Time { return c.now }
func (c *manualClock) Ticker(time.Duration) (<-chan time.Time, func()) {
	return nil, func() {}
}

func remaining(t *testing.T, s *Store) string {
	t.Helper()
	entries, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Stage)
	}
	return strings.Join(names, " ")
}

// TestUsingAStageKeepsItsMemos checks that memos stay as long as the results made from them.
func TestUsingAStageKeepsItsMemos(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := &manualClock{time.Unix(1700000000, 0)}
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error {
		b, err := j.Memo(ctx, "download", func(w *Writer) error { _, err := w.Write([]byte("x")); return err })
		if err != nil {
			return err
		}
		return j.Attach("out", b)
	}}
	mustBuild(t, &Engine{Store: s, Clock: clock}, st)
	clock.now = clock.now.Add(time.Hour)
	mustBuild(t, &Engine{Store: s, Clock: clock}, st)
	if _, err := s.Prune(context.Background(), store.PruneOptions{UnusedSince: clock.now}); err != nil {
		t.Fatal(err)
	}
	if got := remaining(t, s); got != "a a" {
		t.Errorf("left %q, want the stage and its memo", got)
	}
}

func TestPruneWaitsForARunningBuild(t *testing.T) {
	s := openStore(t, t.TempDir())
	running, pruning := make(chan struct{}), make(chan struct{})
	a := writes("a", "A")
	mustBuild(t, &Engine{Store: s}, a)
	slow := &testStage{name: "slow", needs: []string{"a"}, run: func(_ context.Context, j *Job) error {
		close(running)
		<-pruning
		b, err := j.ReadFile("a", "out")
		if err == nil {
			_, err = j.Write("out", b)
		}
		return err
	}}
	pruned := make(chan error, 1)
	go func() {
		<-running
		_, err := s.Prune(context.Background(), store.PruneOptions{All: true, OnWait: func() { close(pruning) }})
		pruned <- err
	}()
	res := mustBuild(t, &Engine{Store: s}, a, slow)
	if res.Stage("a").Status != Cached {
		t.Errorf("a: %s", res.Stage("a").Status)
	}
	if err := <-pruned; err != nil {
		t.Fatal(err)
	}
	if got := remaining(t, s); got != "" {
		t.Errorf("left after the build: %q", got)
	}
}
