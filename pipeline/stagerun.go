package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/sovereign-sql/sov/pipeline/progress"
)

// A stageRun takes one stage through a build.
type stageRun struct {
	build *build
	stage Stage
	name  string
	in    *inputs

	mu      sync.Mutex
	strange []string // stages whose outputs were asked for without being needed
}

// run finds the stage's result in the store or makes it.
func (r *stageRun) run(ctx context.Context) (*StageResult, error) {
	res := &StageResult{Name: r.name, Status: Failed}
	r.in.strange = r.noteStrange
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
	res.Reason, res.Changed = b.last.explain(r.name, res.Key, key.fields)
	if b.explain {
		return res, r.explain(res)
	}
	a, hit, err := b.resolve(ctx, res.Key, r.name, key.fields, func(why *missReason) (*action, error) {
		if why.text != "" {
			res.Reason = why.text
		}
		return r.make(ctx, res, key.fields)
	})
	if hit {
		err = r.deliver(ctx, a)
	}
	if err != nil {
		return res, err
	}
	res.Outputs, res.Warnings, res.Remote = a.Outputs, a.Warnings, a.Remote
	b.uploads.add(a)
	if !hit {
		res.Status = Built
		return res, nil
	}
	res.Status, res.Reason = Cached, ""
	b.tracker.Report(progress.Event{Type: progress.EventCached, Stage: r.name, Key: res.Key, Remote: a.Remote})
	for _, w := range a.Warnings {
		b.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: r.name, Text: w})
	}
	return res, nil
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
	if err := r.strangeError(); err != nil {
		return nil, err
	}
	res.Key, err = k.sum()
	return k, err
}

// explain completes res without running the stage.
func (r *stageRun) explain(res *StageResult) error {
	b := r.build
	a, why, err := b.store.lookup(res.Key, b.promises.expected)
	if err == nil && a == nil && !b.noCache {
		a = b.ask(res.Key, r.name, res.fields)
	}
	switch {
	case err != nil:
		return err
	case a != nil && !b.noCache:
		res.Status, res.Reason, res.Remote, res.Outputs, res.Warnings = Cached, "", a.Remote, a.Outputs, a.Warnings
		return nil
	case b.noCache:
		res.Reason = reasonNoCache
	case why.text != "":
		res.Reason = why.text
	}
	res.Status = Missing
	return nil
}

// make runs the stage.
func (r *stageRun) make(ctx context.Context, res *StageResult, fields []Field) (*action, error) {
	tr := r.build.tracker
	task := tr.Begin(r.name)
	tr.Report(progress.Event{Type: progress.EventStart, Stage: r.name, Key: res.Key, Reason: res.Reason})
	a, err := r.runJob(ctx, task)
	if err == nil && a.Remote != "" {
		err = r.complete(ctx, task, a)
	}
	var size int64
	if a != nil {
		size = totalSize(a.Outputs)
	}
	res.Elapsed = ended(ctx, tr, task, res.Key, size, err)
	if err != nil {
		return nil, err
	}
	a.Key, a.Stage, a.Fields = res.Key, r.name, fields
	a.Created, a.Seconds = r.build.clock.Now(), res.Elapsed.Seconds()
	return a, nil
}

// complete brings blobs that the stage only passed on, if the build is to
// deliver them.
func (r *stageRun) complete(ctx context.Context, task *Task, a *action) error {
	away, err := r.away(a)
	if err != nil || len(away) == 0 {
		return err
	}
	if err := r.bring(ctx, task, away); err != nil {
		return err
	}
	a.Remote = ""
	return nil
}

// runJob calls the stage's Run and collects what it made.
func (r *stageRun) runJob(ctx context.Context, task *Task) (*action, error) {
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
		err = errors.Join(ctx.Err(), r.strangeError(), finishErr)
	}
	if err != nil {
		return nil, err
	}
	return &action{Outputs: outputs, Warnings: j.warnings, Memos: j.memos, Remote: j.remote}, nil
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

func (r *stageRun) noteStrange(stage string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.strange, stage) {
		r.strange = append(r.strange, stage)
	}
}

// strangeError is an error if the stage read what its key does not cover.
func (r *stageRun) strangeError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.strange) == 0 {
		return nil
	}
	return fmt.Errorf("it reads outputs of %q without naming them in Needs", r.strange)
}

const reasonNoCache = "the cache is not asked"

// resolve returns the action under key and true if the store has it.
// Otherwise it has makeAction make it, while other builds that want the same
// wait, and stores it. fields are those of the key.
func (b *build) resolve(ctx context.Context, key, stage string, fields []Field, makeAction func(*missReason) (*action, error)) (*action, bool, error) {
	why := &missReason{text: reasonNoCache}
	if !b.noCache {
		a, miss, err := b.cached(key)
		if a != nil || err != nil {
			return a, a != nil, err
		}
		why = miss
		if why.damage {
			b.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: stage, Text: why.text + "; making it again"})
		}
	}
	lock, err := waitLock(ctx, b.store.lockPath(key), exclusive, true, func(holder string) {
		b.tracker.Report(progress.Event{Type: progress.EventWait, Stage: stage, Text: "waiting for " + holder + ", which is making the same"})
	})
	if err != nil {
		return nil, false, fmt.Errorf("lock its place in the cache: %w", err)
	}
	defer lock.release()
	if !b.noCache {
		a, _, err := b.cached(key)
		if a == nil && err == nil {
			a, err = b.adopt(key, stage, fields)
			b.found(a)
		}
		if a != nil || err != nil {
			return a, a != nil, err
		}
	}
	a, err := b.makeAndSave(key, stage, func() (*action, error) { return makeAction(why) })
	return a, false, err
}

// cached is lookup that notes the use.
func (b *build) cached(key string) (*action, *missReason, error) {
	a, miss, err := b.store.lookup(key, b.promises.expected)
	b.found(a)
	return a, miss, err
}

// found notes the use of an action, which may be nil.
func (b *build) found(a *action) {
	if a == nil {
		return
	}
	b.promises.make(a)
	b.store.behind.note(a)
	b.store.use(a, b.clock.Now())
}

// makeAndSave stores what makeAction returns, and warns if it is not what the
// same key gave before.
func (b *build) makeAndSave(key, stage string, makeAction func() (*action, error)) (*action, error) {
	before, _, err := b.store.load(key)
	if err != nil {
		return nil, err
	}
	a, err := makeAction()
	if err != nil {
		return nil, err
	}
	ws, err := b.ws.get()
	if err != nil {
		return nil, err
	}
	if err := b.store.save(ws, a); err != nil {
		return nil, err
	}
	b.promises.make(a)
	if before != nil && !slices.Equal(before.Outputs, a.Outputs) {
		b.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: stage,
			Text: "the same inputs gave another result than before: it is not reproducible"})
	}
	return a, nil
}

func totalSize(outputs []Output) (n int64) {
	for _, o := range outputs {
		n += o.Size
	}
	return n
}
