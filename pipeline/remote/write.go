package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// smallBlob is the size, in bytes, up to which blobs are sent to targets without Max: later stages
// read small descriptions.
const smallBlob = 1 << 20

// parallelRecords is how many records are transferred at once.
const parallelRecords = 4

// uploads sends results to targets. An error of a target is a warning, shown once for each target,
// and does not fail the build.
type uploads struct {
	store   *Store
	targets []*target
	group   sync.WaitGroup
	slots   chan struct{}

	mu          sync.Mutex
	keys        []string // of stages' results, in the order in which they were found or made
	delivered   map[store.Digest]bool
	done, total int64                   // bytes
	shown       func(done, total int64) // nil: nothing is shown
}

// A target is a cache that receives results until it fails.
type target struct {
	Target
	down atomic.Bool

	mu   sync.Mutex
	seen map[string]bool // keys that have been sent or are being sent
}

func newUploads(s *Store, to []Target) *uploads {
	u := &uploads{store: s, slots: make(chan struct{}, parallelRecords), delivered: map[store.Digest]bool{}}
	for _, t := range to {
		u.targets = append(u.targets, &target{Target: t, seen: map[string]bool{}})
	}
	return u
}

// add adds the result of a stage and starts to send it to the targets with Max. A result with blobs
// that may still be fetched waits for flush.
func (u *uploads) add(r *store.Record) {
	if len(u.targets) == 0 || r.Memo != "" || u.store.Believed(r) != nil {
		return
	}
	u.mu.Lock()
	u.keys = append(u.keys, r.Key)
	u.mu.Unlock()
	if u.store.local.Complete(r) {
		u.sendMost(r)
	}
}

// deliver adds a blob that every target receives.
func (u *uploads) deliver(b store.Blob) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.delivered[b.Digest] = true
}

// sendMost sends a result to the targets with Max.
func (u *uploads) sendMost(r *store.Record) {
	for _, t := range u.targets {
		if t.Max {
			u.group.Go(func() { u.sendAll(t, r) })
		}
	}
}

// sendAll sends a result after its memos, so that a build that finds the result also finds them.
func (u *uploads) sendAll(t *target, r *store.Record) {
	var memos sync.WaitGroup
	for _, key := range r.Memos {
		memo, _, err := u.store.local.Load(key)
		if err == nil && memo != nil && u.store.Believed(memo) == nil {
			memos.Go(func() { u.send(t, memo, nil) })
		}
	}
	memos.Wait()
	u.send(t, r, nil)
}

// flush sends the results that waited and those of the targets without Max, and waits for all
// uploads.
func (u *uploads) flush(ctx context.Context, show func(name, reason string) func(done, total int64)) {
	if len(u.targets) == 0 {
		return
	}
	shown := show("remote cache", "sending what it does not have")
	u.mu.Lock()
	u.shown = shown
	shown(u.done, u.total)
	keys := u.keys
	u.keys = nil
	u.mu.Unlock()
	if ctx.Err() == nil {
		for _, key := range keys {
			if r, _, err := u.store.local.Load(key); err == nil && r != nil {
				u.sendMost(r)
				u.sendLeast(r)
			}
		}
	}
	u.group.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done, u.total, u.shown = 0, 0, nil
}

// sendLeast sends a result, with its delivered and its small blobs, to the targets without Max.
func (u *uploads) sendLeast(r *store.Record) {
	wanted := func(b store.Blob) bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.delivered[b.Digest] || b.Size <= smallBlob
	}
	for _, t := range u.targets {
		if !t.Max {
			u.group.Go(func() { u.send(t, r, wanted) })
		}
	}
}

// send sends a record and its blobs, or those that wanted selects, to a target unless it has
// failed.
func (u *uploads) send(t *target, r *store.Record, wanted func(store.Blob) bool) {
	u.slots <- struct{}{}
	defer func() { <-u.slots }()
	ctx := u.store.ctx
	if t.down.Load() || ctx.Err() != nil || !t.first(r.Key) {
		return
	}
	err := put(ctx, u.store.local, t.Cache, r, wanted, func(n int64) { u.count(0, n) }, func(n int64) { u.count(n, 0) })
	var here *localError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &here):
		u.store.warn(r.Stage, fmt.Sprintf("not sent to remote cache %s: %v", t.Name(), err))
	case t.down.CompareAndSwap(false, true):
		u.store.warn("", fmt.Sprintf("remote cache %s does not accept uploads, the build continues without it: %v", t.Name(), err))
	}
}

func (u *uploads) count(done, total int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done += done
	u.total += total
	if u.shown != nil {
		u.shown(u.done, u.total)
	}
}

// first reports whether this is its first call for a key.
func (t *target) first(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[key] {
		return false
	}
	t.seen[key] = true
	return true
}

// put sends a record and its wanted blobs to a cache; a nil wanted means all blobs. An error of
// this computer is a *localError. grow is called with bytes to send, progress with bytes that were
// sent or skipped.
func put(ctx context.Context, local *store.Store, to Cache, r *store.Record, wanted func(store.Blob) bool, grow, progress func(int64)) error {
	record, err := r.Encode()
	if err != nil {
		return &localError{err}
	}
	blobs := map[store.Digest]store.Blob{}
	for _, o := range r.Outputs {
		// A blob that only another cache has would cross the network twice, so it is skipped.
		if (wanted == nil || wanted(o.Blob)) && local.Check(o.Blob) == nil {
			blobs[o.Digest] = o.Blob
			grow(o.Size)
		}
	}
	var failed atomic.Pointer[localError]
	open := func(b store.Blob) (*os.File, error) {
		f, err := local.Open(b)
		if err != nil {
			err := &localError{err}
			failed.Store(err)
			return nil, err
		}
		return f, nil
	}
	list := slices.Collect(maps.Values(blobs))
	slices.SortFunc(list, func(a, b store.Blob) int { return int(min(max(b.Size-a.Size, -1), 1)) })
	err = to.Put(ctx, r.Key, record, list, open, progress)
	if here := failed.Load(); err != nil && here != nil {
		return here
	}
	return err
}
