package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// An Engine builds stages and caches their results. It may be used for several builds, one after
// another.
type Engine struct {
	Store Cache
	// Jobs is how many stages run at once; 0 means one per CPU.
	Jobs int
	// NoCache runs every stage and memo, even if the store has its result. Results are stored, and
	// the build warns about a result that differs from the stored result under the same key.
	NoCache bool
	// Deliver names the stages whose outputs are in the local store when Build returns. Outputs of
	// other stages may stay in a remote cache. If empty, Deliver defaults to the stages that no
	// other stage needs. If not empty, it must name all of those.
	Deliver []string
	// Scope names what is built ("sql/arm64"), so that the next build of the same scope can say
	// what changed. If empty, no keys are stored.
	Scope string
	// Progress shows what happens; nil shows nothing. Build does not close it.
	Progress progress.Reporter
	// Clock is progress.SystemClock if nil.
	Clock progress.Clock
}

// Build runs the stages whose results the store does not have. If it fails, the Result still has
// the status of each stage that was reached. When it returns, no stage is running and no partial
// file is left.
func (e *Engine) Build(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, false)
}

// Explain returns what Build would do, without running a stage. A stage has the status Unknown if a
// stage that it needs would run: its key depends on the outputs of that run.
func (e *Engine) Explain(ctx context.Context, stages []Stage) (*Result, error) {
	return e.build(ctx, stages, true)
}

// Do runs fn and shows it like a stage. It is not part of a build and is never cached.
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
