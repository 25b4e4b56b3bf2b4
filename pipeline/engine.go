package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/pipeline/progress"
)

// An Engine builds stages with the help of a store. It may be used for one
// build after another.
type Engine struct {
	Store *Store
	// Jobs is how many stages run at once; 0 means one per CPU.
	Jobs int
	// NoCache runs every stage and memo although the store may have their
	// results. Results are stored as ever, and one that differs from what
	// the store had under the same key is warned about.
	NoCache bool
	// Deliver names stages whose outputs are to be in the store when Build
	// returns. Those of others may have been left in a remote.
	Deliver []string
	// Scope names what is built ("sql/arm64"), so that a later build of the
	// same can say what changed. If empty, nothing is remembered.
	Scope string
	// Progress shows what happens; nil shows nothing. Build does not close it.
	Progress progress.Reporter
	// Clock is progress.SystemClock if nil.
	Clock progress.Clock
}

// Build runs the stages whose results the store does not have. If it fails,
// the Result still says what happened to each stage that was reached. When it
// returns, no stage is running any more and nothing half-made is left.
func (e *Engine) Build(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, false)
}

// Explain finds out what Build would do without running anything. The key of
// a stage that needs another that would run is not known before that has
// run; such a stage is Unknown.
func (e *Engine) Explain(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, true)
}

// Do runs fn as a step that is shown like a stage, but is no part of a build
// and never cached.
func (e *Engine) Do(ctx context.Context, name string, fn func(ctx context.Context, t *Task) error) error {
	tr := progress.NewTracker(e.clock(), e.reporter())
	defer tr.Close()
	task := tr.Begin(name)
	tr.Report(progress.Event{Type: progress.EventStart, Stage: name})
	err := fn(ctx, task)
	ended(ctx, tr, task, "", 0, err)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (e *Engine) clock() progress.Clock {
	if e.Clock == nil {
		return progress.SystemClock{}
	}
	return e.Clock
}

func (e *Engine) reporter() progress.Reporter {
	if e.Progress == nil {
		return progress.Silent{}
	}
	return e.Progress
}

// A build is one run of Build or Explain.
type build struct {
	store   *Store
	clock   progress.Clock
	tracker *progress.Tracker
	ws      lazyWorkspace
	graph   *graph
	jobs    int
	noCache bool
	explain bool
	last    *lastBuild

	delivered []string // stages
	promises  *promises
	uploads   *uploads
}

func (e *Engine) build(ctx context.Context, stages []Stage, explain bool) (res *Result, err error) {
	g, err := newGraph(stages)
	if err != nil {
		return &Result{}, err
	}
	b := &build{store: e.Store, clock: e.clock(), graph: g, jobs: e.Jobs, noCache: e.NoCache, explain: explain,
		delivered: e.Deliver, ws: lazyWorkspace{store: e.Store}, promises: newPromises()}
	if b.jobs <= 0 {
		b.jobs = runtime.GOMAXPROCS(0)
	}
	reporter := e.reporter()
	if explain {
		reporter = progress.Silent{}
	}
	b.tracker = progress.NewTracker(b.clock, reporter)
	defer b.tracker.Close()

	release, err := b.store.Use(ctx, func(holder string) {
		b.tracker.Report(progress.Event{Type: progress.EventWait, Text: "the cache is being pruned by " + holder})
	})
	if err != nil {
		return &Result{}, err
	}
	defer release()
	b.uploads = newUploads(b)
	b.last = b.store.readLast(e.Scope)
	// Leftovers are in nobody's way, so trouble with them is no reason to stop.
	if err := b.store.sweepWorkspaces(); err != nil && !explain {
		b.tracker.Report(progress.Event{Type: progress.EventWarning, Text: err.Error()})
	}
	return b.run(ctx, e.Scope)
}

// run runs the graph with everything around it that users see.
func (b *build) run(ctx context.Context, scope string) (*Result, error) {
	started := b.clock.Now()
	b.tracker.Report(progress.Event{Type: progress.EventBuild, Stages: len(b.graph.stages)})
	results, err := b.schedule(ctx)
	if !b.explain {
		// Only explanations depend on it, so it is no reason to fail.
		if err := b.store.writeLast(&b.ws, scope, b.last, results); err != nil {
			b.tracker.Report(progress.Event{Type: progress.EventWarning, Text: err.Error()})
		}
	}
	b.uploads.finish(ctx, results)
	err = errors.Join(err, b.ws.close())

	res := &Result{Elapsed: b.clock.Now().Sub(started)}
	done := progress.Event{Type: progress.EventDone, Elapsed: res.Elapsed}
	for _, r := range results {
		if r == nil {
			continue
		}
		res.Stages = append(res.Stages, *r)
		switch r.Status {
		case Built:
			done.Built++
		case Cached:
			done.Cached++
		}
	}
	if err != nil {
		done.Text, done.Stopped = err.Error(), ctx.Err() != nil
	}
	b.tracker.Report(done)
	return res, err
}

// A stageEnd is what a stage's goroutine sends when it is over.
type stageEnd struct {
	index int
	res   *StageResult
	err   error
}

// schedule runs every stage once those it needs are done, at most b.jobs at a
// time, in the given order where there is a choice. The first error stops the
// others. A stage that wanted a blob which no remote gives in the end runs
// again, after what makes the blob. The results stand in the order of the
// stages; those of stages that were never reached are nil.
func (b *build) schedule(parent context.Context) ([]*StageResult, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	results := make([]*StageResult, len(b.graph.stages))
	q := newQueue(b.graph)
	ends := make(chan stageEnd)
	var errs []error
	for running := 0; ; running-- {
		for running < b.jobs && ctx.Err() == nil {
			next, ok := q.next()
			if !ok {
				break
			}
			go b.goStage(ctx, next, b.inputsOf(next, results), ends)
			running++
		}
		if running == 0 {
			return results, joinStageErrors(parent, errs)
		}
		end := <-ends
		if ctx.Err() == nil && b.retry(q, end, results) {
			continue
		}
		results[end.index] = end.res
		if end.err != nil {
			if ctx.Err() == nil || !followsCancellation(ctx, end.err) {
				errs = append(errs, end.err)
			}
			cancel(end.err)
			continue
		}
		q.done(end.index)
	}
}

// retry has a stage run again that failed because a blob it counted on cannot
// be had, and before it what makes the blob.
func (b *build) retry(q *queue, end stageEnd, results []*StageResult) bool {
	if !b.breakPromise(end.err) {
		return false
	}
	var lost *BlobError
	errors.As(end.err, &lost)
	makers := q.makers(end.index, lost.Digest, results)
	name := b.graph.stages[end.index].Name()
	text := fmt.Sprintf("%v; running it again", lost)
	if len(makers) > 0 {
		text = fmt.Sprintf("%v; making it again with %s", lost, b.graph.stages[makers[0]].Name())
	}
	b.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: name, Text: text})
	q.again(end.index, makers)
	return true
}

// joinStageErrors makes one error of those of the stages.
func joinStageErrors(parent context.Context, errs []error) error {
	if parent.Err() != nil {
		errs = append(errs, &stopError{parent.Err(), context.Cause(parent)})
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// followsCancellation reports whether err is what a stage says because ctx
// told it to stop: the context's error or cause, or a command that was killed.
func followsCancellation(ctx context.Context, err error) bool {
	var exit *exec.ExitError
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) ||
		errors.As(err, &exit) && exit.ExitCode() == -1
}

// A stopError says that the context of a build ended. It is both the
// context's error and its cause.
type stopError struct{ err, cause error }

func (e *stopError) Error() string   { return "build stopped: " + e.cause.Error() }
func (e *stopError) Unwrap() []error { return []error{e.err, e.cause} }

// goStage runs a stage and sends its end, even if the stage panics or calls
// runtime.Goexit.
func (b *build) goStage(ctx context.Context, index int, in *inputs, ends chan<- stageEnd) {
	st := b.graph.stages[index]
	end := stageEnd{index, nil, fmt.Errorf("stage %s ended its goroutine", st.Name())}
	defer func() { ends <- end }()
	r := &stageRun{build: b, stage: st, name: st.Name(), in: in}
	res, err := r.run(ctx)
	if err != nil {
		err = b.store.advise(fmt.Errorf("stage %s: %w", st.Name(), err))
	}
	end.res, end.err = res, err
}

// inputs are the outputs of the stages that one stage needs.
type inputs struct {
	needs   []string // in the order of Needs
	outputs map[string][]Output
	unknown bool               // a needed stage has not run, in Explain
	strange func(stage string) // is told of stages asked for that are not needed
}

// Outputs implements Inputs.
func (in *inputs) Outputs(stage string) []Output {
	if !slices.Contains(in.needs, stage) {
		in.strange(stage)
		return nil
	}
	return slices.Clone(in.outputs[stage])
}

func (b *build) inputsOf(index int, results []*StageResult) *inputs {
	in := &inputs{outputs: map[string][]Output{}}
	for _, n := range b.graph.needs[index] {
		r := results[n]
		in.needs = append(in.needs, r.Name)
		in.outputs[r.Name] = r.Outputs
		if r.Status != Built && r.Status != Cached {
			in.unknown = true
		}
	}
	return in
}

// ended reports how a task ended and returns how long it took.
func ended(ctx context.Context, tr *progress.Tracker, t *Task, key string, size int64, err error) time.Duration {
	e := progress.Event{Type: progress.EventBuilt, Stage: t.Name(), Key: key, Size: size, Elapsed: tr.End(t)}
	var lost *BlobError
	switch {
	case errors.As(err, &lost): // it may run again; if not, the build says why
		e.Type = progress.EventCancelled
	case err != nil && ctx.Err() != nil && followsCancellation(ctx, err):
		e.Type = progress.EventCancelled
	case err != nil:
		e.Type, e.Text = progress.EventFailed, err.Error()
	}
	tr.Report(e)
	return e.Elapsed
}
