package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// TransferOptions say what Push and Pull transfer.
type TransferOptions struct {
	// Last limits Push to what the last build of each scope used.
	Last bool
	// Believe is as in Options. Push skips records for which it returns an error.
	Believe func(*store.Record) error
	// Progress, if not nil, is called with the bytes transferred so far and the total known so far,
	// one call at a time.
	Progress func(done, total int64)
}

// TransferResult is what a Push or Pull did.
type TransferResult struct {
	Entries int   // records transferred or found at the other end
	Blobs   int   // of these records, each counted once
	Bytes   int64 // of those blobs
	Away    int   // blobs that records of the source name and the source lacks
	// Refused lists damaged entries, which were skipped.
	Refused []string
}

// transfer is one Push or Pull.
type transfer struct {
	local   *store.Store
	remote  Cache
	options TransferOptions

	mu          sync.Mutex
	done, total int64
	res         TransferResult
	blobs       map[store.Digest]bool
}

func newTransfer(local *store.Store, remote Cache, o TransferOptions) *transfer {
	return &transfer{local: local, remote: remote, options: o, blobs: map[store.Digest]bool{}}
}

func (t *transfer) grow(n int64)     { t.advance(0, n) }
func (t *transfer) progress(n int64) { t.advance(n, 0) }

func (t *transfer) advance(done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += done
	t.total += total
	if t.options.Progress != nil {
		t.options.Progress(t.done, t.total)
	}
}

// count adds a record and those of its blobs that are in the store.
func (t *transfer) count(a *store.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Entries++
	for _, o := range a.Outputs {
		switch {
		case t.blobs[o.Digest]:
			continue
		case t.local.Check(o.Blob) == nil:
			t.res.Blobs++
			t.res.Bytes += o.Size
		default:
			t.res.Away++
		}
		t.blobs[o.Digest] = true
	}
}

func (t *transfer) refuse(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Refused = append(t.res.Refused, fmt.Sprintf("%s: %v", what, err))
}

// Push sends all results, or those of the last builds, with their blobs to a remote cache. It does
// not send what the cache already has.
func Push(ctx context.Context, local *store.Store, remote Cache, o TransferOptions) (TransferResult, error) {
	release, err := local.Use(ctx, nil)
	if err != nil {
		return TransferResult{}, err
	}
	defer release()
	records, err := local.Records(ctx, o.Last)
	if err != nil {
		return TransferResult{}, err
	}
	// A record names its memos, so those are sent first.
	slices.SortStableFunc(records, func(a, b *store.Record) int { return len(a.Memos) - len(b.Memos) })
	t := newTransfer(local, remote, o)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRecords)
	for _, a := range records {
		if o.Believe != nil {
			if err := o.Believe(a); err != nil {
				t.refuse(a.Stage+" "+store.ShortKey(a.Key), err)
				continue
			}
		}
		group.Go(func() error {
			if err := put(ctx, local, remote, a, nil, t.grow, t.progress); err != nil {
				return fmt.Errorf("send %s %s to %s: %w", a.Stage, store.ShortKey(a.Key), remote.Name(), err)
			}
			t.count(a)
			return nil
		})
	}
	return t.end(group.Wait())
}

// Pull copies everything from a remote cache. It skips damaged entries and lists them in the
// result.
func Pull(ctx context.Context, local *store.Store, remote Cache, o TransferOptions) (TransferResult, error) {
	release, err := local.Use(ctx, nil)
	if err != nil {
		return TransferResult{}, err
	}
	defer release()
	keys, err := remote.Keys(ctx)
	if err != nil {
		return TransferResult{}, fmt.Errorf("list %s: %w", remote.Name(), err)
	}
	t := newTransfer(local, remote, o)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRecords)
	for _, key := range keys {
		group.Go(func() error {
			if err := t.pull(ctx, key); err != nil {
				return fmt.Errorf("get %s from %s: %w", store.ShortKey(key), remote.Name(), err)
			}
			return nil
		})
	}
	return t.end(group.Wait())
}

func (t *transfer) end(err error) (TransferResult, error) {
	slices.Sort(t.res.Refused)
	return t.res, err
}

// pull copies one record, after its blobs.
func (t *transfer) pull(ctx context.Context, key string) error {
	raw, signer, err := t.remote.Record(ctx, key)
	var a *store.Record
	if err == nil {
		if a, err = store.ParseRecord(raw, key); err != nil {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if err != nil {
		return t.forgive("record "+store.ShortKey(key), err)
	}
	a.From, a.Signer = t.remote.Name(), signer
	for _, o := range a.Outputs {
		err := t.pullBlob(ctx, key, o.Blob)
		if errors.Is(err, fs.ErrNotExist) {
			a.Remote = t.remote.Name()
			continue
		}
		if err != nil {
			return t.forgive(fmt.Sprintf("%s of %s %s", o.Name, a.Stage, store.ShortKey(key)), err)
		}
	}
	// A record of the remote cache does not replace a local one.
	have, _, err := t.local.Load(key)
	if err != nil || have != nil && t.local.Complete(have) && (t.options.Believe == nil || t.options.Believe(have) == nil) {
		t.count(a)
		return err
	}
	if err := t.local.Save(a); err != nil {
		return err
	}
	t.count(a)
	return nil
}

// forgive records the error of one entry, or returns an error that ends the transfer.
func (t *transfer) forgive(what string, err error) error {
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, ErrUnsigned):
		t.refuse(what, err)
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile
	default:
		return err
	}
	return nil
}

// pullBlob fetches a blob into the store. If several goroutines want it, one fetches it.
func (t *transfer) pullBlob(ctx context.Context, key string, b store.Blob) error {
	if t.local.Check(b) == nil {
		return nil
	}
	release, err := t.local.LockBlob(ctx, b.Digest)
	if err != nil {
		return t.local.Advise(err)
	}
	defer release()
	if t.local.Check(b) == nil {
		return nil
	}
	t.grow(b.Size)
	return fetchFrom(ctx, t.local, t.remote, key, b, t.progress)
}
