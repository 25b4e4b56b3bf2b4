package remote

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A testStage is a stage made of functions.
type testStage struct {
	name  string
	needs []string
	key   func(k *pipeline.Key, in pipeline.Inputs) error
	run   func(ctx context.Context, j *pipeline.Job) error
	runs  atomic.Int64
}

func (s *testStage) Name() string    { return s.name }
func (s *testStage) Needs() []string { return s.needs }

func (s *testStage) Key(k *pipeline.Key, in pipeline.Inputs) error {
	if s.key == nil {
		return nil
	}
	return s.key(k, in)
}

func (s *testStage) Run(ctx context.Context, j *pipeline.Job) error {
	s.runs.Add(1)
	if s.run == nil {
		return nil
	}
	return s.run(ctx, j)
}

// writes returns a stage whose key and output are text.
func writes(name, text string, needs ...string) *testStage {
	return &testStage{name: name, needs: needs,
		key: func(k *pipeline.Key, in pipeline.Inputs) error { k.Add("text", text); return nil },
		run: func(ctx context.Context, j *pipeline.Job) error {
			_, err := j.Write("out", []byte(text))
			return err
		}}
}

// concat returns a stage whose output is the concatenated outputs of the stages that it needs.
func concat(name string, needs ...string) *testStage {
	return &testStage{name: name, needs: needs, run: func(ctx context.Context, j *pipeline.Job) error {
		var all []byte
		for _, n := range needs {
			b, err := j.ReadFile(n, "out")
			if err != nil {
				return err
			}
			all = append(all, b...)
		}
		_, err := j.Write("out", all)
		return err
	}}
}

// An eventLog remembers events.
type eventLog struct {
	mu     sync.Mutex
	events []progress.Event
	on     func(progress.Event) // may be nil
}

func (l *eventLog) Report(e progress.Event) {
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
	if l.on != nil {
		l.on(e)
	}
}

func (l *eventLog) Close() error { return nil }

func (l *eventLog) texts(t progress.EventType) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, e := range l.events {
		if e.Type == t {
			all = append(all, e.Text)
		}
	}
	return all
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustBuild(t testing.TB, e *pipeline.Engine, stages ...pipeline.Stage) *pipeline.Result {
	t.Helper()
	res, err := e.Build(context.Background(), stages)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// content reads an output of a result.
func content(t testing.TB, s *store.Store, res *pipeline.Result, stage, name string) string {
	t.Helper()
	b, err := res.Output(stage, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// assertNothingHalfMade checks that no temporary files and no locks of actions are left.
func assertNothingHalfMade(t testing.TB, s *store.Store) {
	t.Helper()
	for _, dir := range []string{"tmp", "locks"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if dir == "tmp" || len(e.Name()) == 64 {
				t.Errorf("%s/%s is left", dir, e.Name())
			}
		}
	}
}
