package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A stageRun takes one stage through a build.
type stageRun struct {
	build     *build
	stage     Stage
	name      string
	in        *inputs
	delivered bool // the build is for its outputs

	mu         sync.Mutex
	undeclared []string // stages whose outputs were read although Needs does not name them
}

// run finds the stage's result in the cache or makes it.
func (r *stageRun) run(ctx context.Context) (*StageResult, error) {
	res := &StageResult{Name: r.name, Status: Failed}
	r.in.undeclared = r.noteUndeclared
	if r.in.unknown {
		res.Status, res.Reason = Unknown, "depends on what an earlier stage makes"
		return res, nil
	}
	key, err := r.key(res)
	if err != nil {
		return res, fmt.Errorf("compute its key: %w", err)
	}
	b := r.build
	res.fields = key.fields
	res.Reason, res.Changed = explain(b.last, r.name, res.Key, key.fields)
	q := store.Query{Key: res.Key, Stage: r.name, Fields: key.fields}
	if b.explain {
		return res, r.explain(res, q)
	}
	rec, hit, err := b.resolve(ctx, q, r.checkPins(), func(why string) (*store.Record, error) {
		if why != "" {
			res.Reason = why
		}
		return r.make(ctx, res, q)
	})
	if err != nil {
		return res, err
	}
	res.Outputs, res.Warnings, res.Remote = rec.Outputs, rec.Warnings, rec.Remote
	res.From, res.Signer = rec.TakenFrom(), rec.Signer
	if !hit {
		res.Status = Built
		return res, nil
	}
	if err := r.deliver(ctx, rec); err != nil {
		return res, err
	}
	res.Status, res.Reason = Cached, ""
	b.tracker.Report(progress.Event{Type: progress.EventCached, Stage: r.name, Key: res.Key, Remote: rec.Remote})
	for _, w := range rec.Warnings {
		b.warn(r.name, w)
	}
	return res, nil
}

// checkPins returns a function that compares a cached record with the stage's pins, or nil if the
// stage is not Pinned.
func (r *stageRun) checkPins() func(*store.Record) error {
	pinned, ok := r.stage.(Pinned)
	if !ok {
		return nil
	}
	return func(rec *store.Record) (err error) {
		defer recoverTo(&err)
		return pinned.CheckPins(rec.Outputs, r.build.store.Open)
	}
}

// key computes the stage's key into res.
func (r *stageRun) key(res *StageResult) (k *Key, err error) {
	defer recoverTo(&err)
	k = newKey()
	k.Add("engine", engineFormat)
	k.Add("stage", r.name)
	for _, need := range r.in.needs {
		for _, o := range r.in.outputs[need] {
			k.Add("input "+need+"/"+o.Name, o.Digest)
		}
	}
	if err := r.stage.Key(k, r.in); err != nil {
		return nil, err
	}
	if err := r.undeclaredError(); err != nil {
		return nil, err
	}
	res.Key, err = k.sum()
	return k, err
}

// explain completes res without running the stage.
func (r *stageRun) explain(res *StageResult, q store.Query) error {
	res.Status = Missing
	if r.build.noCache {
		res.Reason = reasonNoCache
		return nil
	}
	rec, miss, err := r.build.store.Get(q)
	if err == nil && rec != nil {
		unusable := r.build.store.Believed(rec)
		if check := r.checkPins(); unusable == nil && check != nil {
			unusable = check(rec)
		}
		if unusable != nil {
			rec, miss.Reason = nil, "what the cache has cannot be used: "+unusable.Error()
		}
	}
	switch {
	case err != nil:
		res.Status = Failed
		return err
	case rec != nil:
		res.Status, res.Reason, res.Remote, res.Outputs, res.Warnings = Cached, "", rec.Remote, rec.Outputs, rec.Warnings
	case miss.Reason != "":
		res.Reason = miss.Reason
	}
	return nil
}

// make runs the stage.
func (r *stageRun) make(ctx context.Context, res *StageResult, q store.Query) (*store.Record, error) {
	tr := r.build.tracker
	task := tr.Begin(r.name)
	tr.Report(progress.Event{Type: progress.EventStart, Stage: r.name, Key: res.Key, Reason: res.Reason})
	rec, err := r.runJob(ctx, task)
	if err == nil && r.delivered {
		// A stage may return a blob of its input that is still in a remote cache.
		err = r.bring(ctx, task, rec, r.away(rec))
		rec.Remote = ""
	}
	var size int64
	if rec != nil {
		size = totalSize(rec.Outputs)
	}
	res.Elapsed = ended(ctx, tr, task, res.Key, size, err)
	if err != nil {
		return nil, err
	}
	rec.Key, rec.Stage, rec.Fields = q.Key, q.Stage, q.Fields
	rec.Created, rec.Seconds = r.build.clock.Now(), res.Elapsed.Seconds()
	return rec, nil
}

// deliver fetches the outputs of a cached result if the stage's outputs are delivered.
func (r *stageRun) deliver(ctx context.Context, rec *store.Record) error {
	if !r.delivered {
		return nil
	}
	away := r.away(rec)
	if len(away) == 0 {
		return r.bring(ctx, nil, rec, nil)
	}
	tr := r.build.tracker
	task := tr.Begin(r.name)
	tr.Report(progress.Event{Type: progress.EventStart, Stage: r.name, Key: rec.Key, Reason: "its files are in " + rec.Remote})
	if err := r.bring(ctx, task, rec, away); err != nil {
		ended(ctx, tr, task, rec.Key, 0, err)
		return err
	}
	tr.End(task)
	return nil
}

// away returns the blobs of a record that the local store lacks.
func (r *stageRun) away(rec *store.Record) map[Digest]bool {
	away := map[Digest]bool{}
	for _, o := range rec.Outputs {
		if !r.build.store.Local().Has(o.Digest) {
			away[o.Digest] = true
		}
	}
	return away
}

// parallelBlobs is how many blobs of one record are fetched at once. Most are small, and the
// latency to a registry is high.
const parallelBlobs = 4

// bring calls the cache's Deliver for the outputs of a record. Those in away are fetched.
func (r *stageRun) bring(ctx context.Context, task *Task, rec *store.Record, away map[Digest]bool) error {
	if len(away) > 0 {
		task.Step("fetch")
	}
	for _, o := range rec.Outputs {
		if away[o.Digest] {
			task.Grow(o.Size)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlobs)
	for _, o := range rec.Outputs {
		group.Go(func() error {
			var done atomic.Int64
			err := r.build.store.Deliver(o.Blob, func(n int64) { done.Add(n); task.Add(n) })
			if away[o.Digest] {
				task.Add(o.Size - done.Load()) // another process has fetched it
			}
			return errors.Join(err, ctx.Err())
		})
	}
	return group.Wait()
}

// runJob calls the stage's Run and collects what it made.
func (r *stageRun) runJob(ctx context.Context, task *Task) (*store.Record, error) {
	j := &Job{build: r.build, stage: r.name, in: r.in, task: task}
	finished := false
	defer func() {
		if !finished { // Goexit
			j.finish()
		}
	}()
	err := runStage(ctx, r.stage, j)
	outputs, finishErr := j.finish()
	finished = true
	if err == nil {
		err = errors.Join(ctx.Err(), r.undeclaredError(), finishErr)
	}
	if err != nil {
		return nil, err
	}
	return &store.Record{Outputs: outputs, Warnings: j.warnings, Memos: j.memos, Remote: j.remote, From: j.from, Signer: j.signer}, nil
}

func runStage(ctx context.Context, st Stage, j *Job) (err error) {
	defer recoverTo(&err)
	return st.Run(ctx, j)
}

// recoverTo turns a panic into an error.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

func (r *stageRun) noteUndeclared(stage string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.undeclared, stage) {
		r.undeclared = append(r.undeclared, stage)
	}
}

// undeclaredError is an error if the stage read what its key does not cover.
func (r *stageRun) undeclaredError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.undeclared) == 0 {
		return nil
	}
	return fmt.Errorf("it reads outputs of %q without naming them in Needs", r.undeclared)
}

func totalSize(outputs []Output) (n int64) {
	for _, o := range outputs {
		n += o.Size
	}
	return n
}
