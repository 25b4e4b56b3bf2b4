package pipeline

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"sync"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A build is one run of Build or Explain.
type build struct {
	store   Cache
	clock   progress.Clock
	tracker *progress.Tracker
	graph   *graph
	jobs    int
	noCache bool
	explain bool
	last    map[string]store.StageKey

	mu    sync.Mutex
	tried map[retrial]bool
}

// A retrial identifies a second run of a stage or memo because of one blob. Each happens at most
// once.
type retrial struct {
	what string
	blob Digest
}

// again reports whether err is about a blob that the cache cannot return, and whether this is the
// first such error for what.
func (b *build) again(what string, err error) (*store.BlobError, bool) {
	var lost *store.BlobError
	if !errors.As(err, &lost) {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := retrial{what, lost.Digest}
	known := b.tried[r]
	b.tried[r] = true
	return lost, !known
}

func (e *Engine) build(ctx context.Context, stages []Stage, explain bool) (res *Result, err error) {
	g, err := newGraph(stages, e.Deliver)
	if err != nil {
		return &Result{}, err
	}
	b := &build{store: e.Store, clock: e.clock(), graph: g, jobs: e.Jobs, noCache: e.NoCache, explain: explain, tried: map[retrial]bool{}}
	if b.jobs <= 0 {
		b.jobs = runtime.GOMAXPROCS(0)
	}
	reporter := e.reporter()
	if explain {
		reporter = progress.Silent{}
	}
	b.tracker = progress.NewTracker(b.clock, reporter)
	defer b.tracker.Close()

	local := b.store.Local()
	release, err := local.Use(ctx, func(holder string) {
		b.tracker.Report(progress.Event{Type: progress.EventWait, Text: "the cache is being pruned by " + holder})
	})
	if err != nil {
		return &Result{}, err
	}
	defer release()
	b.last = local.Last(e.Scope)
	// Leftovers do no harm, so a build does not fail because of them.
	if err := local.Sweep(); err != nil && !explain {
		b.warn("", err.Error())
	}
	return b.run(ctx, e.Scope)
}

func (b *build) warn(stage, text string) {
	b.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: stage, Text: text})
}

// run runs the graph and reports progress, warnings and the result.
func (b *build) run(ctx context.Context, scope string) (*Result, error) {
	started := b.clock.Now()
	b.tracker.Report(progress.Event{Type: progress.EventBuild, Stages: len(b.graph.stages)})
	results, err := b.schedule(ctx)
	if !b.explain {
		b.remember(scope, results)
		b.flush(ctx)
	}
	res := &Result{Elapsed: b.clock.Now().Sub(started)}
	for _, r := range results {
		if r != nil {
			res.Stages = append(res.Stages, *r)
		}
	}
	done := progress.Event{Type: progress.EventDone, Elapsed: res.Elapsed, Built: res.Count(Built), Cached: res.Count(Cached)}
	if err != nil {
		done.Text, done.Stopped = err.Error(), ctx.Err() != nil
	}
	b.tracker.Report(done)
	return res, err
}

// remember stores the keys of stages that were built or found, and keeps the stored keys of other
// stages. Only explanations use them, so an error does not fail the build.
func (b *build) remember(scope string, results []*StageResult) {
	now := maps.Clone(b.last)
	if now == nil {
		now = map[string]store.StageKey{}
	}
	changed := false
	for _, r := range results {
		if r == nil || r.Status != Built && r.Status != Cached || now[r.Name].Key == r.Key {
			continue
		}
		now[r.Name] = store.StageKey{Key: r.Key, Fields: r.fields}
		changed = true
	}
	if scope == "" || !changed {
		return
	}
	if err := b.store.Local().SetLast(scope, now); err != nil {
		b.warn("", err.Error())
	}
}

// flush waits for the cache's uploads and shows them like a stage.
func (b *build) flush(ctx context.Context) {
	var task *Task
	var sent int64
	b.store.Flush(ctx, func(name, reason string) func(done, total int64) {
		task = b.tracker.Begin(name)
		b.tracker.Report(progress.Event{Type: progress.EventStart, Stage: name, Reason: reason})
		return func(done, total int64) {
			sent = done
			task.Set(done, total)
		}
	})
	if task != nil {
		ended(ctx, b.tracker, task, "", sent, ctx.Err())
	}
}
