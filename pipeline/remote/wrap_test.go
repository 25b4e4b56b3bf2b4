package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A memoryRemote is a Cache that tests can make fail.
type memoryRemote struct {
	mu      sync.Mutex
	records map[string][]byte
	blobs   map[string]map[pipeline.Digest][]byte // by key
	fetched []pipeline.Digest
	asked   int
	fail    error                                      // of every call
	onFetch func(content []byte) (out []byte, e error) // may be nil
}

func newMemoryRemote() *memoryRemote {
	return &memoryRemote{records: map[string][]byte{}, blobs: map[string]map[pipeline.Digest][]byte{}}
}

func (m *memoryRemote) Name() string { return "memory" }

func (m *memoryRemote) Keys(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.records)), m.fail
}

func (m *memoryRemote) Record(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.fail != nil {
		return nil, "", m.fail
	}
	if m.records[key] == nil {
		return nil, "", fs.ErrNotExist
	}
	return m.records[key], "", nil
}

func (m *memoryRemote) Fetch(_ context.Context, key string, b pipeline.Blob, w io.WriterAt, _ func(int64)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	content, ok := m.blobs[key][b.Digest]
	if !ok {
		return fs.ErrNotExist
	}
	m.fetched = append(m.fetched, b.Digest)
	if m.onFetch != nil {
		var err error
		if content, err = m.onFetch(content); err != nil {
			return err
		}
	}
	_, err := w.WriteAt(content, 0)
	return err
}

func (m *memoryRemote) Put(_ context.Context, key string, record []byte, blobs []pipeline.Blob, open func(pipeline.Blob) (*os.File, error), _ func(int64)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.records[key] = record
	if m.blobs[key] == nil {
		m.blobs[key] = map[pipeline.Digest][]byte{}
	}
	for _, b := range blobs {
		f, err := open(b)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return err
		}
		m.blobs[key][b.Digest] = content
	}
	return nil
}

// took returns the number of blobs that were fetched since the last call.
func (m *memoryRemote) took() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.fetched)
	m.fetched = nil
	return n
}

// A team is stages that count their runs: a and b, c of both, and d of c. a uses a memo.
type team struct {
	a, b, c, d *testStage
	memoRuns   int
}

func newTeam(dText string) *team {
	tm := &team{b: writes("b", strings.Repeat("b", 2<<20)), c: concat("c", "a", "b")}
	tm.a = &testStage{name: "a", run: func(ctx context.Context, j *pipeline.Job) error {
		b, err := j.Memo(ctx, "download", func(w *pipeline.Writer) error {
			tm.memoRuns++
			_, err := io.WriteString(w, "a")
			return err
		})
		if err != nil {
			return err
		}
		return j.Attach("out", b)
	}}
	tm.d = &testStage{name: "d", needs: []string{"c"},
		key: func(k *pipeline.Key, in pipeline.Inputs) error { k.Add("text", dText); return nil },
		run: func(ctx context.Context, j *pipeline.Job) error {
			c, err := j.Output("c", "out")
			if err != nil {
				return err
			}
			if err := j.Attach("whole", c); err != nil {
				return err
			}
			_, err = j.Write("text", []byte(dText))
			return err
		}}
	return tm
}

func (tm *team) stages() []pipeline.Stage { return []pipeline.Stage{tm.a, tm.b, tm.c, tm.d} }

// ran returns the names of the stages that ran, with their number of runs.
func (tm *team) ran() string {
	var names []string
	for _, st := range []*testStage{tm.a, tm.b, tm.c, tm.d} {
		if st.runs.Load() > 0 {
			names = append(names, fmt.Sprintf("%s%d", st.name, st.runs.Load()))
		}
	}
	return strings.Join(names, " ")
}

// A machine is a store and the warnings of its builds.
type machine struct {
	t        *testing.T
	store    *store.Store
	warnings *eventLog
}

func newMachine(t *testing.T) *machine {
	return &machine{t, openStore(t, t.TempDir()), &eventLog{}}
}

func (m *machine) engine(from []Cache, to ...Target) *pipeline.Engine {
	m.warnings = &eventLog{}
	cache := Wrap(m.t.Context(), m.store, Options{From: from, To: to, Warn: func(stage, text string) {
		m.warnings.Report(progress.Event{Type: progress.EventWarning, Stage: stage, Text: text})
	}})
	return &pipeline.Engine{Store: cache, Jobs: 4, Scope: "team/x", Deliver: []string{"d"}, Progress: m.warnings}
}

// build builds a team and checks the outputs.
func (m *machine) build(tm *team, dText string, from []Cache, to ...Target) *pipeline.Result {
	m.t.Helper()
	e := m.engine(from, to...)
	res := mustBuild(m.t, e, tm.stages()...)
	for name, want := range map[string]string{"whole": "a" + strings.Repeat("b", 2<<20), "text": dText} {
		b, err := res.Output("d", name)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := m.store.Check(b); err != nil {
			m.t.Errorf("%s is not delivered: %v", name, err)
		}
		if got := content(m.t, m.store, res, "d", name); got != want {
			m.t.Errorf("%s is %.20q... (%d bytes)", name, got, len(got))
		}
	}
	assertNothingHalfMade(m.t, m.store)
	return res
}

func (m *machine) wantWarnings(n int, part string) {
	m.t.Helper()
	got := m.warnings.texts(progress.EventWarning)
	if len(got) != n || n > 0 && !slices.ContainsFunc(got, func(w string) bool { return strings.Contains(w, part) }) {
		m.t.Errorf("%d warnings, want %d with %q: %q", len(got), n, part, got)
	}
}

// filled returns a remote cache with everything that the build of a team made.
func filled(t *testing.T, max bool) *memoryRemote {
	t.Helper()
	remote := newMemoryRemote()
	newMachine(t).build(newTeam("d"), "d", nil, Target{remote, max})
	return remote
}

func TestRemoteHit(t *testing.T) {
	for _, max := range []bool{true, false} {
		remote := filled(t, max)
		m, tm := newMachine(t), newTeam("d")
		res := m.build(tm, "d", []Cache{remote})
		if tm.ran() != "" || res.Count(pipeline.Cached) != 4 || res.Stage("a").Remote != "memory" {
			t.Errorf("max %v: ran %q, %d cached", max, tm.ran(), res.Count(pipeline.Cached))
		}
		// Only d's two blobs are transferred. One of them is c's.
		if n := remote.took(); n != 2 {
			t.Errorf("max %v: %d blobs were fetched", max, n)
		}
		m.wantWarnings(0, "")
		before := remote.asked
		m.build(tm, "d", []Cache{remote})
		if remote.asked != before || remote.took() != 0 {
			t.Error("a second build asked again")
		}
	}
}

func TestRemoteIsAskedOnlyForWhatRuns(t *testing.T) {
	remote := filled(t, true)
	m, tm := newMachine(t), newTeam("other")
	tm.b.key = func(k *pipeline.Key, in pipeline.Inputs) error { k.Add("text", "another key"); return nil }
	m.build(tm, "other", []Cache{remote})
	// b ran with another key and made the same output. Only d is new, and passes c's blob on.
	if tm.ran() != "b1 d1" || tm.memoRuns != 0 || remote.took() != 1 {
		t.Errorf("ran %q, the memo %d times", tm.ran(), tm.memoRuns)
	}
}

func TestRemoteGoesAway(t *testing.T) {
	remote := filled(t, true)
	m, tm := newMachine(t), newTeam("other")
	e := m.engine([]Cache{remote})
	// The remote fails after all records were found.
	inner := tm.d.run
	tm.d.run = func(ctx context.Context, j *pipeline.Job) error {
		remote.mu.Lock()
		remote.fail = errors.New("connection refused")
		remote.mu.Unlock()
		return inner(ctx, j)
	}
	res := mustBuild(t, e, tm.stages()...)
	if got := content(t, m.store, res, "d", "whole"); len(got) != 1+2<<20 {
		t.Errorf("whole has %d bytes", len(got))
	}
	if tm.ran() != "a1 b1 c2 d2" && tm.ran() != "a1 b1 c3 d2" || tm.memoRuns != 1 {
		t.Errorf("ran %q, the memo %d times", tm.ran(), tm.memoRuns)
	}
	n := 0
	for _, w := range m.warnings.texts(progress.EventWarning) {
		if strings.Contains(w, "connection refused") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("it is warned %d times: %q", n, m.warnings.texts(progress.EventWarning))
	}
	assertNothingHalfMade(t, m.store)
}

// TestLostBlobThatWasPassedOn loses a blob that one stage made, another passed on, and two others
// read.
func TestLostBlobThatWasPassedOn(t *testing.T) {
	remote := filled(t, true)
	remote.onFetch = func([]byte) ([]byte, error) { return nil, fmt.Errorf("%w: spoilt", ErrRefused) }
	m, tm := newMachine(t), newTeam("d")
	reads := func(name string) *testStage {
		return &testStage{name: name, needs: []string{"d"}, run: func(_ context.Context, j *pipeline.Job) error {
			b, err := j.ReadFile("d", "whole")
			if err == nil {
				_, err = j.Write("out", b)
			}
			return err
		}}
	}
	e := m.engine([]Cache{remote})
	e.Deliver = []string{"e", "f"}
	res := mustBuild(t, e, append(tm.stages(), reads("e"), reads("f"))...)
	for _, name := range e.Deliver {
		if got := content(t, m.store, res, name, "out"); len(got) != 1+2<<20 {
			t.Errorf("%s has %d bytes", name, len(got))
		}
	}
	if tm.c.runs.Load() == 0 || res.Stage("c").Remote != "" {
		t.Errorf("ran %q, c is from %q", tm.ran(), res.Stage("c").Remote)
	}
	assertNothingHalfMade(t, m.store)
}

func TestRemoteIsNotNeededLater(t *testing.T) {
	remote := filled(t, true)
	m := newMachine(t)
	m.build(newTeam("d"), "d", []Cache{remote})

	tm := newTeam("d")
	m.build(tm, "d", nil)
	if tm.ran() != "" {
		t.Errorf("without the remote %q ran", tm.ran())
	}
	if v, err := m.store.Verify(t.Context(), store.VerifyOptions{}); err != nil || len(v.Problems) > 0 || v.Away == 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if _, err := m.store.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	// c's blob was fetched as d's. With another key c runs and needs a, which is not in this store.
	tm = newTeam("d")
	tm.c.key = func(k *pipeline.Key, in pipeline.Inputs) error { k.Add("version", 2); return nil }
	m.build(tm, "d", nil)
	if tm.ran() != "a1 b1 c3" && tm.ran() != "a1 b1 c2" {
		t.Errorf("after a change %q ran", tm.ran())
	}
}

func TestRemoteIsWrong(t *testing.T) {
	refuse := fmt.Errorf("%w: bad piece", ErrRefused)
	tests := []struct {
		name   string
		spoil  func(m *memoryRemote)
		reason string
	}{
		{"another content", func(m *memoryRemote) {
			m.onFetch = func(b []byte) ([]byte, error) { return append([]byte("x"), b[1:]...), nil }
		}, "digest"},
		{"cut off", func(m *memoryRemote) {
			m.onFetch = func(b []byte) ([]byte, error) { return b[:len(b)-1], nil }
		}, "digest"},
		{"too long", func(m *memoryRemote) {
			m.onFetch = func(b []byte) ([]byte, error) { return append(b, 0), nil }
		}, "longer"},
		{"refused", func(m *memoryRemote) { m.onFetch = func(b []byte) ([]byte, error) { return nil, refuse } }, "bad piece"},
		{"records of nothing", func(m *memoryRemote) {
			for key := range m.records {
				m.records[key] = []byte("{}")
			}
		}, "digest"},
		{"each other's records", func(m *memoryRemote) {
			keys := slices.Sorted(maps.Keys(m.records))
			first := m.records[keys[0]]
			for i, key := range keys[:len(keys)-1] {
				m.records[key] = m.records[keys[i+1]]
			}
			m.records[keys[len(keys)-1]] = first
		}, "record of"},
		{"a record about other inputs", func(m *memoryRemote) {
			for key, raw := range m.records {
				a, err := store.ParseRecord(raw, key)
				if err != nil {
					panic(err)
				}
				a.Fields = nil
				m.records[key], _ = a.Encode()
			}
		}, "other inputs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			remote := filled(t, true)
			tt.spoil(remote)
			m, tm := newMachine(t), newTeam("d")
			m.build(tm, "d", []Cache{remote})
			if tm.c.runs.Load() == 0 {
				t.Errorf("only %q ran", tm.ran())
			}
			if got := strings.Join(m.warnings.texts(progress.EventWarning), "\n"); !strings.Contains(got, tt.reason) {
				t.Errorf("warnings: %s", got)
			}
			if v, err := m.store.Verify(t.Context(), store.VerifyOptions{}); err != nil || len(v.Problems) > 0 {
				t.Errorf("verify: %+v, %v", v, err)
			}
		})
	}
}

func TestRemoteThatNeverWorks(t *testing.T) {
	remote := newMemoryRemote()
	remote.fail = errors.New("no route to host")
	m, tm := newMachine(t), newTeam("d")
	m.build(tm, "d", []Cache{remote}, Target{remote, true})
	m.wantWarnings(2, "no route to host") // once for reading, once for writing
	if tm.ran() != "a1 b1 c1 d1" {
		t.Errorf("ran %q", tm.ran())
	}
}

func TestDamageIsFetchedAgain(t *testing.T) {
	remote := newMemoryRemote()
	m, tm := newMachine(t), newTeam("d")
	res := m.build(tm, "d", nil, Target{remote, true})
	b, err := res.Output("c", "out")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.store.Dir(), "blobs", "sha256", b.Digest.Hex()[:2], b.Digest.Hex())
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("spoilt"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.build(tm, "d", []Cache{remote})
	if tm.ran() != "a1 b1 c1 d1" || remote.took() != 1 {
		t.Errorf("ran %q", tm.ran())
	}
	m.wantWarnings(2, "damaged") // for c, and for d, which passes the blob on
}

func TestExplainWithRemote(t *testing.T) {
	remote := filled(t, true)
	m, tm := newMachine(t), newTeam("d")
	res, err := m.engine([]Cache{remote}).Explain(t.Context(), tm.stages())
	if err != nil || res.Count(pipeline.Cached) != 4 || remote.took() != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if entries, err := m.store.List(t.Context()); err != nil || len(entries) != 0 {
		t.Errorf("it left %d entries, %v", len(entries), err)
	}
}

func TestPushAndPull(t *testing.T) {
	remote := newMemoryRemote()
	one, other := newMachine(t), newMachine(t)
	one.build(newTeam("old"), "old", nil)
	one.build(newTeam("d"), "d", nil)
	if res, err := Push(t.Context(), one.store, remote, TransferOptions{Last: true}); err != nil || res.Entries != 5 {
		t.Fatalf("push the last build: %+v, %v", res, err)
	}
	res, err := Push(t.Context(), one.store, remote, TransferOptions{})
	if err != nil || res.Entries != 6 || res.Blobs != 5 {
		t.Fatalf("push: %+v, %v", res, err)
	}
	var done, total int64
	res, err = Pull(t.Context(), other.store, remote, TransferOptions{Progress: func(d, n int64) { done, total = d, n }})
	if err != nil || res.Entries != 6 || res.Blobs != 5 || len(res.Refused) > 0 || total == 0 || done > total {
		t.Fatalf("pull: %+v, %v; %d of %d", res, err, done, total)
	}
	tm := newTeam("d")
	other.build(tm, "d", nil)
	if tm.ran() != "" {
		t.Errorf("ran %q", tm.ran())
	}
	if entries, err := other.store.List(t.Context()); err != nil || slices.ContainsFunc(entries, func(e store.Entry) bool { return e.Remote != "" }) {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestPullRefuses(t *testing.T) {
	remote := filled(t, true)
	remote.onFetch = func(b []byte) ([]byte, error) {
		if len(b) > 1<<20 {
			return b[:len(b)/2], nil
		}
		return b, nil
	}
	m := newMachine(t)
	res, err := Pull(t.Context(), m.store, remote, TransferOptions{})
	if err != nil || len(res.Refused) != 3 || res.Entries != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestPruneKeepsScopes(t *testing.T) {
	m := newMachine(t)
	m.build(newTeam("d"), "d", nil)
	for _, keep := range []string{"team", "team/x"} {
		res, err := m.store.Prune(t.Context(), store.PruneOptions{All: true, KeepScopes: []string{keep}, DryRun: true})
		if err != nil || len(res.Entries) != 0 {
			t.Errorf("keeping %s: %d go, %v", keep, len(res.Entries), err)
		}
	}
	for _, o := range []store.PruneOptions{{All: true, KeepScopes: []string{"tea"}}, {MadeBefore: time.Now().Add(time.Hour)}} {
		o.DryRun = true
		if res, err := m.store.Prune(t.Context(), o); err != nil || len(res.Entries) != 5 {
			t.Errorf("%+v: %d go, %v", o, len(res.Entries), err)
		}
	}
}

// TestManyDamagedMemos checks that damaged memos do not restart a stage, and that a remote with too
// many of them is not used any more.
func TestManyDamagedMemos(t *testing.T) {
	const memos = 20
	made := 0
	downloads := func() *testStage {
		return &testStage{name: "downloads", run: func(ctx context.Context, j *pipeline.Job) error {
			for i := range memos {
				b, err := j.Memo(ctx, fmt.Sprint(i), func(w *pipeline.Writer) error {
					made++
					_, err := fmt.Fprint(w, "content ", i)
					return err
				})
				if err != nil {
					return err
				}
				f, err := j.Open(b)
				if err != nil {
					return err
				}
				f.Close()
			}
			_, err := j.Write("out", nil)
			return err
		}}
	}
	remote, asked := newMemoryRemote(), 0
	e := newMachine(t).engine(nil, Target{remote, true})
	e.Deliver = []string{"downloads"}
	mustBuild(t, e, downloads())
	remote.onFetch = func([]byte) ([]byte, error) {
		asked++
		return nil, fmt.Errorf("%w: spoilt", ErrRefused)
	}
	for key := range remote.records { // remove the stage's record, keep those of memos
		if len(remote.blobs[key]) == 1 && remote.blobs[key][pipeline.DigestOf(nil)] != nil {
			delete(remote.records, key)
		}
	}
	made = 0
	m, st := newMachine(t), downloads()
	e = m.engine([]Cache{remote})
	e.Deliver = []string{"downloads"}
	mustBuild(t, e, st)
	if st.runs.Load() != 1 || made != memos || asked != maxRefused {
		t.Errorf("it ran %d times and made %d memos, after %d tries", st.runs.Load(), made, asked)
	}
	m.wantWarnings(maxRefused+1, "too much of it is damaged")
}
