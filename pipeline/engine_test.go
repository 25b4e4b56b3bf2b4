package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A testStage is a stage made of functions.
type testStage struct {
	name  string
	needs []string
	key   func(k *Key, in Inputs) error
	run   func(ctx context.Context, j *Job) error
	runs  atomic.Int64
}

func (s *testStage) Name() string    { return s.name }
func (s *testStage) Needs() []string { return s.needs }

func (s *testStage) Key(k *Key, in Inputs) error {
	if s.key == nil {
		return nil
	}
	return s.key(k, in)
}

func (s *testStage) Run(ctx context.Context, j *Job) error {
	s.runs.Add(1)
	if s.run == nil {
		return nil
	}
	return s.run(ctx, j)
}

// writes returns a stage whose key and output are text.
func writes(name, text string, needs ...string) *testStage {
	return &testStage{name: name, needs: needs,
		key: func(k *Key, in Inputs) error { k.Add("text", text); return nil },
		run: func(ctx context.Context, j *Job) error {
			_, err := j.Write("out", []byte(text))
			return err
		}}
}

// concat returns a stage whose output is the concatenated outputs of the stages that it needs.
func concat(name string, needs ...string) *testStage {
	return &testStage{name: name, needs: needs, run: func(ctx context.Context, j *Job) error {
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

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustBuild(t testing.TB, e *Engine, stages ...Stage) *Result {
	t.Helper()
	res, err := e.Build(context.Background(), stages)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// content reads an output of a result.
func content(t testing.TB, s *Store, res *Result, stage, name string) string {
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
func assertNothingHalfMade(t testing.TB, s *Store) {
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

func blobPath(s *Store, d Digest) string {
	return filepath.Join(s.Dir(), "blobs", "sha256", d.Hex()[:2], d.Hex())
}

func recordPath(s *Store, key string) string {
	return filepath.Join(s.Dir(), "actions", key+".json")
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func statuses(res *Result) string {
	var all []string
	for _, st := range res.Stages {
		all = append(all, st.Name+"="+string(st.Status))
	}
	return strings.Join(all, " ")
}

func TestBuildRunsOnceAndThenNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	e := &Engine{Store: s}
	stages := []Stage{concat("c", "a", "b"), writes("a", "A"), writes("b", "B")}
	res := mustBuild(t, e, stages...)
	if got, want := statuses(res), "c=built a=built b=built"; got != want {
		t.Errorf("first build: %s, want %s", got, want)
	}
	if got := content(t, s, res, "c", "out"); got != "AB" {
		t.Errorf("c made %q, want AB", got)
	}
	again := mustBuild(t, e, stages...)
	if got, want := statuses(again), "c=cached a=cached b=cached"; got != want {
		t.Errorf("second build: %s, want %s", got, want)
	}
	if again.Stage("c").Key != res.Stage("c").Key {
		t.Error("the key of c changed without a reason")
	}
	assertNothingHalfMade(t, s)
}

func TestEarlyCutoff(t *testing.T) {
	s := openStore(t, t.TempDir())
	e := &Engine{Store: s}
	version := 1
	a := &testStage{name: "a",
		key: func(k *Key, in Inputs) error { k.Add("version", version); return nil },
		run: func(ctx context.Context, j *Job) error { _, err := j.Write("out", []byte("same")); return err }}
	mustBuild(t, e, a, concat("b", "a"))
	version = 2
	if got, want := statuses(mustBuild(t, e, a, concat("b", "a"))), "a=built b=cached"; got != want {
		t.Errorf("a gave the same bytes under another key: %s, want %s", got, want)
	}
}

func TestNoCacheRunsEverythingAndStores(t *testing.T) {
	s := openStore(t, t.TempDir())
	memos := 0
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error {
		b, err := j.Memo(ctx, "m", func(w *Writer) error { memos++; _, err := w.Write([]byte("m")); return err })
		if err != nil {
			return err
		}
		return j.Attach("out", b)
	}}
	mustBuild(t, &Engine{Store: s}, st)
	res := mustBuild(t, &Engine{Store: s, NoCache: true}, st)
	if st.runs.Load() != 2 || memos != 2 || res.Stage("a").Status != Built {
		t.Errorf("with NoCache the stage ran %d times and its memo %d times in 2 builds", st.runs.Load(), memos)
	}
	if got := statuses(mustBuild(t, &Engine{Store: s}, st)); got != "a=cached" {
		t.Errorf("after NoCache: %s", got)
	}
}

func TestNoCacheNoticesIrreproducibleStages(t *testing.T) {
	s := openStore(t, t.TempDir())
	n := 0
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error {
		n++
		_, err := j.Write("out", fmt.Append(nil, n))
		return err
	}}
	mustBuild(t, &Engine{Store: s}, st)
	log := &eventLog{}
	mustBuild(t, &Engine{Store: s, NoCache: true, Progress: log}, st)
	if w := log.texts(progress.EventWarning); len(w) != 1 || !strings.Contains(w[0], "not reproducible") {
		t.Errorf("warnings: %q", w)
	}
}

func TestMemoSurvivesChangesOfTheStage(t *testing.T) {
	s := openStore(t, t.TempDir())
	e := &Engine{Store: s}
	fetched := 0
	stage := func(version int) *testStage {
		return &testStage{name: "a",
			key: func(k *Key, in Inputs) error { k.Add("version", version); return nil },
			run: func(ctx context.Context, j *Job) error {
				b, err := j.Memo(ctx, "download 1", func(w *Writer) error {
					fetched++
					_, err := io.WriteString(w, "payload")
					return err
				})
				if err != nil {
					return err
				}
				return j.Attach("out", b)
			}}
	}
	for version := range 3 {
		res := mustBuild(t, e, stage(version))
		if got := content(t, s, res, "a", "out"); got != "payload" {
			t.Errorf("version %d: %q", version, got)
		}
	}
	if fetched != 1 {
		t.Errorf("fetched %d times, want 1", fetched)
	}
}

func TestFailedMemoIsNotRemembered(t *testing.T) {
	s := openStore(t, t.TempDir())
	boom := errors.New("connection reset")
	fail := true
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error {
		b, err := j.Memo(ctx, "m", func(w *Writer) error {
			io.WriteString(w, "half")
			if fail {
				return boom
			}
			return nil
		})
		if err != nil {
			return err
		}
		return j.Attach("out", b)
	}}
	_, err := (&Engine{Store: s}).Build(context.Background(), []Stage{st})
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want %v", err, boom)
	}
	assertNothingHalfMade(t, s)
	fail = false
	mustBuild(t, &Engine{Store: s}, st)
}

func TestJobsLimitAndParallelism(t *testing.T) {
	for _, jobs := range []int{1, 3} {
		t.Run(fmt.Sprint(jobs), func(t *testing.T) {
			var now, most atomic.Int64
			var together sync.WaitGroup // requires that jobs stages run at once
			together.Add(jobs)
			var stages []Stage
			for i := range 6 {
				stages = append(stages, &testStage{name: fmt.Sprint("s", i), run: func(ctx context.Context, j *Job) error {
					n := now.Add(1)
					defer now.Add(-1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					if i < jobs {
						together.Done()
						together.Wait()
					}
					return nil
				}})
			}
			mustBuild(t, &Engine{Store: openStore(t, t.TempDir()), Jobs: jobs}, stages...)
			if most.Load() != int64(jobs) {
				t.Errorf("%d stages ran at once, want %d", most.Load(), jobs)
			}
		})
	}
}

func TestOneJobKeepsTheGivenOrder(t *testing.T) {
	log := &eventLog{}
	stages := []Stage{concat("z", "m"), writes("q", "1"), writes("m", "2"), writes("a", "3")}
	mustBuild(t, &Engine{Store: openStore(t, t.TempDir()), Jobs: 1, Progress: log}, stages...)
	var order []string
	for _, e := range log.events {
		if e.Type == progress.EventStart {
			order = append(order, e.Stage)
		}
	}
	if want := []string{"q", "m", "z", "a"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestBadGraphs(t *testing.T) {
	for _, c := range []struct {
		name   string
		stages []Stage
		want   string
	}{
		{"unknown need", []Stage{concat("a", "b")}, "stage a needs b, which is not part of this build"},
		{"same name", []Stage{writes("a", "1"), writes("a", "2")}, "two stages are called a"},
		{"self", []Stage{concat("a", "a")}, "in a circle: a needs a"},
		{"circle", []Stage{writes("x", ""), concat("a", "x", "b"), concat("b", "c"), concat("c", "a")}, "in a circle: a needs b needs c needs a"},
		{"bad name", []Stage{writes("../a", "1")}, `stage "../a": bad name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := (&Engine{Store: openStore(t, t.TempDir())}).Build(context.Background(), c.stages)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestUnusedOutput rejects a stage whose output is not used: it is missing in the Needs of another.
func TestUnusedOutput(t *testing.T) {
	const forgotten = "stage motd: nothing takes its output: name it in the Needs of another stage or in Deliver"
	stages := []Stage{concat("bundle", "a"), writes("a", "A"), writes("motd", "hello")}
	for _, c := range []struct {
		name    string
		deliver []string
		want    string // "" if the build succeeds
	}{
		{"forgotten", []string{"bundle"}, forgotten},
		{"needed by no other but delivered", []string{"bundle", "motd"}, ""},
		{"no Deliver", nil, ""},
		{"Deliver names nothing", []string{"bundle", "motd", "simg"}, "cannot deliver stage simg: it is not part of this build"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &Engine{Store: openStore(t, t.TempDir()), Deliver: c.deliver}
			for what, run := range map[string]func(context.Context, []Stage) (*Result, error){"Explain": e.Explain, "Build": e.Build} {
				_, err := run(context.Background(), stages)
				if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
					t.Errorf("%s: error %v, want %q", what, err, c.want)
				}
			}
		})
	}
}

func TestFaultyStages(t *testing.T) {
	run := func(f func(ctx context.Context, j *Job) error) *testStage { return &testStage{name: "bad", run: f} }
	for _, c := range []struct {
		name  string
		stage *testStage
		want  string
	}{
		{"error", run(func(context.Context, *Job) error { return errors.New("no such compiler") }), "stage bad: no such compiler"},
		{"panic", run(func(context.Context, *Job) error { var s []int; s[len(os.Args)] = 1; return nil }), "stage bad: panic: runtime error: index out of range"},
		{"panic in key", &testStage{name: "bad", key: func(*Key, Inputs) error { panic("oh") }}, "stage bad: compute its key: panic: oh"},
		{"two outputs of one name", run(func(_ context.Context, j *Job) error {
			j.Write("x", nil)
			_, err := j.Write("x", nil)
			return err
		}), "stage bad: output x is created twice"},
		{"output outside", run(func(_ context.Context, j *Job) error { _, err := j.Write("../x", nil); return err }), `output "../x"`},
		{"forgotten commit", run(func(_ context.Context, j *Job) error { _, err := j.Create("x"); return err }), "output x was created but never committed"},
		{"reads what it does not need", run(func(_ context.Context, j *Job) error { j.Outputs("other"); return nil }), `it reads outputs of ["other"] without naming them`},
		{"key reads what it does not need", &testStage{name: "bad", key: func(_ *Key, in Inputs) error { in.Outputs("other"); return nil }}, "without naming them"},
		{"attaches what is not there", run(func(_ context.Context, j *Job) error {
			return j.Attach("x", Blob{Digest: DigestOf([]byte("?")), Size: 1})
		}), "is missing from the cache"},
		{"label twice", &testStage{name: "bad", key: func(k *Key, _ Inputs) error { k.Add("a", 1); k.Add("a", 2); return nil }}, `key field "a" is added twice`},
		{"unwritable key", &testStage{name: "bad", key: func(k *Key, _ Inputs) error { k.Add("a", make(chan int)); return nil }}, `key field "a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			after := concat("after", "bad")
			res, err := (&Engine{Store: s}).Build(context.Background(), []Stage{c.stage, after, writes("other", "x")})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if after.runs.Load() != 0 {
				t.Error("a stage ran after the one it needs had failed")
			}
			if st := res.Stage("bad"); st == nil || st.Status != Failed {
				t.Errorf("result of the bad stage: %+v", st)
			}
			assertNothingHalfMade(t, s)
		})
	}
}

func TestFirstErrorStopsTheOthers(t *testing.T) {
	s := openStore(t, t.TempDir())
	started := make(chan struct{})
	stopped := map[string]func(ctx context.Context) error{
		"context": func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("wait: %w", ctx.Err()) },
		"cause":   func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("wait: %w", context.Cause(ctx)) },
		"command": func(ctx context.Context) error { return exec.CommandContext(ctx, "sleep", "60").Run() },
	}
	stages := []Stage{&testStage{name: "bad", run: func(context.Context, *Job) error {
		for range stopped {
			<-started
		}
		return errors.New("boom")
	}}}
	for name, wait := range stopped {
		stages = append(stages, &testStage{name: name, run: func(ctx context.Context, j *Job) error {
			started <- struct{}{}
			return wait(ctx)
		}})
	}
	log := &eventLog{}
	_, err := (&Engine{Store: s, Jobs: len(stages), Progress: log}).Build(context.Background(), stages)
	if err == nil || err.Error() != "stage bad: boom" {
		t.Errorf("error %v, want only that of the stage that failed", err)
	}
	if n := len(log.texts(progress.EventCancelled)); n != len(stopped) {
		t.Errorf("%d stages were reported as cancelled, want %d", n, len(stopped))
	}
}

func TestCancellationCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("interrupted")
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error { cancel(cause); return context.Cause(ctx) }}
	_, err := (&Engine{Store: openStore(t, t.TempDir())}).Build(ctx, []Stage{st})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || err.Error() != "build stopped: interrupted" {
		t.Errorf("error %v", err)
	}
}

func TestIndependentErrorsAreBothReported(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	fail := func(name string) *testStage {
		return &testStage{name: name, run: func(context.Context, *Job) error { both.Done(); both.Wait(); return errors.New("boom " + name) }}
	}
	_, err := (&Engine{Store: openStore(t, t.TempDir()), Jobs: 2}).Build(context.Background(), []Stage{fail("a"), fail("b")})
	if err == nil || !strings.Contains(err.Error(), "stage a: boom a") || !strings.Contains(err.Error(), "stage b: boom b") {
		t.Errorf("error %v, want both", err)
	}
}

func TestCancellationLeavesNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	st := &testStage{name: "a", run: func(ctx context.Context, j *Job) error {
		w, err := j.Create("half")
		if err != nil {
			return err
		}
		w.Write(make([]byte, 1<<20))
		dir, err := j.Scratch()
		if err != nil {
			return err
		}
		// A directory without write permission, as in Go's module cache.
		if err := os.MkdirAll(filepath.Join(dir, "mod", "x"), 0o755); err != nil {
			return err
		}
		os.Chmod(filepath.Join(dir, "mod"), 0o555)
		_, err = j.Memo(ctx, "m", func(w *Writer) error {
			w.Write([]byte("half"))
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		return err
	}}
	log := &eventLog{}
	_, err := (&Engine{Store: s, Progress: log}).Build(ctx, []Stage{st, concat("b", "a")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	assertNothingHalfMade(t, s)
	if u, err := s.Usage(context.Background()); err != nil || u.Blobs+u.Entries != 0 {
		t.Errorf("%d blobs and %d records are left (%v)", u.Blobs, u.Entries, err)
	}
	if len(log.texts(progress.EventCancelled)) != 1 {
		t.Error("the stage was not reported as cancelled")
	}
}

func TestScratchGoesWithItsStage(t *testing.T) {
	var dir string
	a := &testStage{name: "a", run: func(_ context.Context, j *Job) (err error) { dir, err = j.Scratch(); return err }}
	b := &testStage{name: "b", needs: []string{"a"}, run: func(context.Context, *Job) error {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		return nil
	}}
	mustBuild(t, &Engine{Store: openStore(t, t.TempDir())}, a, b)
	if dir == "" || b.runs.Load() != 1 {
		t.Error("the stages did not run")
	}
}

func TestJobAfterItsStage(t *testing.T) {
	var kept *Job
	st := &testStage{name: "a", run: func(_ context.Context, j *Job) error { kept = j; return nil }}
	mustBuild(t, &Engine{Store: openStore(t, t.TempDir())}, st)
	if _, err := kept.Write("late", nil); !errors.Is(err, errJobFinished) {
		t.Errorf("error %v, want %v", err, errJobFinished)
	}
}

func TestOutputsKeepTheirOrder(t *testing.T) {
	st := &testStage{name: "a", run: func(_ context.Context, j *Job) error {
		first, _ := j.Create("first")
		dropped, _ := j.Create("dropped")
		second, _ := j.Create("second")
		if _, err := second.Commit(); err != nil {
			return err
		}
		dropped.Abort()
		_, err := first.Commit()
		return err
	}}
	res := mustBuild(t, &Engine{Store: openStore(t, t.TempDir())}, st)
	out := res.Stage("a").Outputs
	if len(out) != 2 || out[0].Name != "first" || out[1].Name != "second" {
		t.Errorf("outputs %v, want first, second", out)
	}
}

func TestWarningsAreShownAgain(t *testing.T) {
	s := openStore(t, t.TempDir())
	st := &testStage{name: "a", run: func(_ context.Context, j *Job) error { j.Warnf("package %s has scripts", "x"); return nil }}
	for i, want := range []Status{Built, Cached} {
		log := &eventLog{}
		res := mustBuild(t, &Engine{Store: s, Progress: log}, st)
		if got := log.texts(progress.EventWarning); !slices.Equal(got, []string{"package x has scripts"}) {
			t.Errorf("build %d showed %q", i, got)
		}
		if r := res.Stage("a"); r.Status != want || len(r.Warnings) != 1 {
			t.Errorf("build %d: %+v", i, r)
		}
	}
}

func TestDamageIsHealed(t *testing.T) {
	build := func(t *testing.T, s *Store, log *eventLog) *Result {
		return mustBuild(t, &Engine{Store: s, Progress: log}, writes("a", "AAAA"), concat("b", "a"))
	}
	blob := func(s *Store) string { return blobPath(s, DigestOf([]byte("AAAA"))) }
	flip := func(t *testing.T, path string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, s *Store, res *Result)
		want   string
	}{
		{"flipped bit", func(t *testing.T, s *Store, _ *Result) { flip(t, blob(s)) }, "was damaged (its content has the digest"},
		{"cut short", func(t *testing.T, s *Store, _ *Result) { os.Truncate(blob(s), 2) }, "was damaged (it has 2 bytes instead of 4)"},
		{"missing", func(t *testing.T, s *Store, _ *Result) { os.Remove(blob(s)) }, "is missing from the cache"},
		{"record flipped", func(t *testing.T, s *Store, res *Result) { flip(t, recordPath(s, res.Stage("a").Key)) }, "its record in the cache is damaged"},
		{"record empty", func(t *testing.T, s *Store, res *Result) { os.Truncate(recordPath(s, res.Stage("a").Key), 0) }, "its record in the cache is damaged"},
		{"record of another", func(t *testing.T, s *Store, res *Result) {
			b, _ := os.ReadFile(recordPath(s, res.Stage("b").Key))
			os.WriteFile(recordPath(s, res.Stage("a").Key), b, 0o644)
		}, "it is the record of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			first := build(t, s, &eventLog{})
			c.damage(t, s, first)
			log := &eventLog{}
			res := build(t, s, log)
			if got := content(t, s, res, "b", "out"); got != "AAAA" {
				t.Errorf("after the damage: %q", got)
			}
			if res.Stage("a").Status != Built {
				t.Errorf("the damaged stage was not built again: %s", statuses(res))
			}
			if w := strings.Join(log.texts(progress.EventWarning), "\n"); !strings.Contains(w, c.want) {
				t.Errorf("warnings %q, want %q", w, c.want)
			}
			if v, err := s.Verify(context.Background(), store.VerifyOptions{}); err != nil || len(v.Problems) > 0 {
				t.Errorf("verify after healing: %+v, %v", v, err)
			}
			if res := build(t, s, &eventLog{}); res.Count(Cached) != 2 {
				t.Errorf("after healing: %s", statuses(res))
			}
		})
	}
}

func TestDoIsShownAndNotCached(t *testing.T) {
	log := &eventLog{}
	e := &Engine{Store: openStore(t, t.TempDir()), Progress: log}
	err := e.Do(context.Background(), "resolve", func(_ context.Context, task *Task) error {
		task.Logf("asking %s", "mirror")
		return errors.New("no route")
	})
	if err == nil || err.Error() != "resolve: no route" {
		t.Errorf("error %v", err)
	}
	if got := log.texts(progress.EventLog); !slices.Equal(got, []string{"asking mirror"}) {
		t.Errorf("log %q", got)
	}
	if len(log.texts(progress.EventFailed)) != 1 {
		t.Error("failure not reported")
	}
}
