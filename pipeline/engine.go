package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// An Engine builds stages with the help of a cache. It may be used for one build after another.
type Engine struct {
	Store Cache
	// Jobs is how many stages run at once; 0 means one per CPU.
	Jobs int
	// NoCache runs every stage and memo although the store may have their results. Results are
	// stored as ever, and one that differs from what the store had under the same key is warned
	// about.
	NoCache bool
	// Deliver names stages whose outputs are in the local store when Build returns. Those of others
	// may have been left in a remote cache. If empty, these are the stages that no other needs; if
	// not, a stage that no other needs and that is not named is an error.
	Deliver []string
	// Scope names what is built ("sql/arm64"), so that a later build of the same can say what
	// changed. If empty, nothing is remembered.
	Scope string
	// Progress shows what happens; nil shows nothing. Build does not close it.
	Progress progress.Reporter
	// Clock is progress.SystemClock if nil.
	Clock progress.Clock
}

// Build runs the stages whose results the store does not have. If it fails, the Result still says
// what happened to each stage that was reached. When it returns, no stage is running any more and
// nothing half-made is left.
func (e *Engine) Build(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, false)
}

// Explain finds out what Build would do without running anything. The key of a stage that needs
// another that would run is not known before that has run; such a stage is Unknown.
func (e *Engine) Explain(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, true)
}

// Do runs fn as a step that is shown like a stage, but is not part of a build and never cached.
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

// ended reports how a task ended and returns how long it took.
func ended(ctx context.Context, tr *progress.Tracker, t *Task, key string, size int64, err error) time.Duration {
	e := progress.Event{Type: progress.EventBuilt, Stage: t.Name(), Key: key, Size: size, Elapsed: tr.End(t)}
	var lost *store.BlobError
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
