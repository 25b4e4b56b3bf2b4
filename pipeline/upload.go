package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sovereign-sql/sov/pipeline/progress"
)

// smallBlob is the size, in bytes, up to which a blob goes to a remote that
// is given the least: descriptions, which later stages read, weigh nothing.
const smallBlob = 1 << 20

// parallelRecords is how many records are transferred at once.
const parallelRecords = 4

// uploads send results to remotes, beside the build as far as possible. What
// goes wrong there is warned about, once for a remote, and no error.
type uploads struct {
	build   *build
	targets []*target
	group   sync.WaitGroup
	slots   chan struct{}

	total, done atomic.Int64 // bytes
	task        atomic.Pointer[Task]
}

// A target is a remote that is given results until it fails.
type target struct {
	Target
	down atomic.Bool

	mu   sync.Mutex
	seen map[string]bool // keys that have been sent, or are being
}

func newUploads(b *build) *uploads {
	u := &uploads{build: b, slots: make(chan struct{}, parallelRecords)}
	if b.store.behind == nil || b.explain {
		return u
	}
	for _, to := range b.store.behind.to {
		u.targets = append(u.targets, &target{Target: to, seen: map[string]bool{}})
	}
	return u
}

// add begins to send a result to the remotes that want everything.
func (u *uploads) add(a *action) {
	for _, t := range u.targets {
		if t.Max {
			u.group.Go(func() { u.sendAll(t, a) })
		}
	}
}

// sendAll sends a result after its memos: who finds it can count on them.
func (u *uploads) sendAll(t *target, a *action) {
	var memos sync.WaitGroup
	for _, key := range a.Memos {
		memo, _, err := u.build.store.load(key)
		if err == nil && memo != nil {
			memos.Go(func() { u.send(t, memo, nil) })
		}
	}
	memos.Wait()
	u.send(t, a, nil)
}

// finish sends what the other remotes want and waits for everything.
func (u *uploads) finish(ctx context.Context, results []*StageResult) {
	if len(u.targets) == 0 {
		return
	}
	tr := u.build.tracker
	task := tr.Begin("remote cache")
	tr.Report(progress.Event{Type: progress.EventStart, Stage: task.Name(), Reason: "sending what it does not have"})
	u.task.Store(task)
	task.Set(u.done.Load(), u.total.Load())
	if ctx.Err() == nil {
		u.sendLeast(results)
	}
	u.group.Wait()
	ended(ctx, tr, task, "", u.done.Load(), ctx.Err())
}

// sendLeast sends all records, with the blobs of what is delivered and small
// ones, to the remotes that do not want everything.
func (u *uploads) sendLeast(results []*StageResult) {
	delivered := map[Digest]bool{}
	for _, r := range results {
		if r != nil && slices.Contains(u.build.delivered, r.Name) {
			for _, o := range r.Outputs {
				delivered[o.Digest] = true
			}
		}
	}
	for _, t := range u.targets {
		for _, r := range results {
			if t.Max || r == nil || r.Status != Built && r.Status != Cached {
				continue
			}
			a, _, err := u.build.store.load(r.Key)
			if err == nil && a != nil {
				u.group.Go(func() {
					u.send(t, a, func(b Blob) bool { return delivered[b.Digest] || b.Size <= smallBlob })
				})
			}
		}
	}
}

// send gives a record and its blobs, or those that wanted picks, to a remote
// unless it has failed.
func (u *uploads) send(t *target, a *action, wanted func(Blob) bool) {
	u.slots <- struct{}{}
	defer func() { <-u.slots }()
	ctx := u.build.store.behind.ctx
	if t.down.Load() || ctx.Err() != nil || !t.first(a.Key) {
		return
	}
	advance := func(n int64) { u.count(n, 0) }
	err := u.build.store.put(ctx, t.Remote, a, wanted, func(n int64) { u.count(0, n) }, advance)
	var here *localError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &here):
		u.build.tracker.Report(progress.Event{Type: progress.EventWarning, Stage: a.Stage, Text: fmt.Sprintf("not sent to remote cache %s: %v", t.Name(), err)})
	case t.down.CompareAndSwap(false, true):
		u.build.tracker.Report(progress.Event{Type: progress.EventWarning,
			Text: fmt.Sprintf("remote cache %s takes nothing, the build goes on without it: %v", t.Name(), err)})
	}
}

// first reports whether a key is asked about for the first time.
func (t *target) first(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[key] {
		return false
	}
	t.seen[key] = true
	return true
}

// put gives a remote a record and those of its blobs that are wanted; nil
// means all of them. A *localError is not the remote's. grow is told of bytes
// to come, progress of bytes that are dealt with.
func (s *Store) put(ctx context.Context, remote Remote, a *action, wanted func(Blob) bool, grow, progress func(int64)) error {
	record, err := a.portable()
	if err != nil {
		return &localError{err}
	}
	blobs := map[Digest]Blob{}
	for _, o := range a.Outputs {
		// What another remote keeps, and nobody has needed here, would cross
		// the network twice. It goes with a result that this computer has.
		if (wanted == nil || wanted(o.Blob)) && s.check(o.Blob) == nil {
			blobs[o.Digest] = o.Blob
			grow(o.Size)
		}
	}
	var failed atomic.Pointer[localError]
	open := func(b Blob) (*os.File, error) {
		f, err := s.openHere(b)
		if err != nil {
			err := &localError{err}
			failed.Store(err)
			return nil, err
		}
		return f, nil
	}
	list := slices.Collect(maps.Values(blobs))
	slices.SortFunc(list, func(a, b Blob) int { return int(min(max(b.Size-a.Size, -1), 1)) })
	err = remote.Put(ctx, a.Key, record, list, open, progress)
	if here := failed.Load(); err != nil && here != nil {
		return here
	}
	return err
}

func (u *uploads) count(done, total int64) {
	d, n := u.done.Add(done), u.total.Add(total)
	u.task.Load().Set(d, n)
}
