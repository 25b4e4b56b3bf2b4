package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// A stageEnd is sent by a stage's goroutine when it ends.
type stageEnd struct {
	index int
	res   *StageResult
	err   error
}

// schedule runs each stage after the stages that it needs, at most b.jobs at a time. Of several
// stages that are ready it runs the first in the given order. The first error stops the others. If
// the cache cannot return a blob that a stage opens, the stage runs again after the stage that
// makes the blob. The results are in the order of the stages; those of stages that were not reached
// are nil.
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

// retry queues a stage again that failed because the cache cannot return a blob, after the stages
// that made the blob. It returns false if neither the stage nor its needs made the blob, or if it
// has queued the stage again for this blob before.
func (b *build) retry(q *queue, end stageEnd, results []*StageResult) bool {
	name := b.graph.stages[end.index].Name()
	lost, first := b.again("stage "+name, end.err)
	if !first {
		return false
	}
	makers := q.makers(end.index, lost.Digest, results)
	text := fmt.Sprintf("%v; running it again", lost)
	if len(makers) > 0 {
		text = fmt.Sprintf("%v; making it again with %s", lost, b.graph.stages[makers[0]].Name())
	} else if end.res == nil || !end.res.made(lost.Digest) {
		return false
	}
	b.warn(name, text)
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

// followsCancellation reports whether err is a consequence of the end of ctx: the context's error
// or cause, or a killed command.
func followsCancellation(ctx context.Context, err error) bool {
	var exit *exec.ExitError
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) ||
		errors.As(err, &exit) && exit.ExitCode() == -1
}

// A stopError says that the context of a build ended. It is both the context's error and its cause.
type stopError struct{ err, cause error }

func (e *stopError) Error() string   { return "build stopped: " + e.cause.Error() }
func (e *stopError) Unwrap() []error { return []error{e.err, e.cause} }

// goStage runs a stage and sends its end, even if the stage panics or calls runtime.Goexit.
func (b *build) goStage(ctx context.Context, index int, in *inputs, ends chan<- stageEnd) {
	st := b.graph.stages[index]
	end := stageEnd{index, nil, fmt.Errorf("stage %s ended its goroutine", st.Name())}
	defer func() { ends <- end }()
	r := &stageRun{build: b, stage: st, name: st.Name(), in: in, delivered: b.graph.delivered[index]}
	res, err := r.run(ctx)
	if err != nil {
		err = b.store.Local().Advise(fmt.Errorf("stage %s: %w", st.Name(), err))
	}
	end.res, end.err = res, err
}
