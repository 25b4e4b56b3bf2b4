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
	// Last has Push send only what the last build of each scope used.
	Last bool
	// Believe is that of Options. Push leaves out what is not believed.
	Believe func(*store.Record) error
	// Progress, if not nil, is called with the bytes dealt with so far and those known to be ahead
	// in all, one call at a time.
	Progress func(done, total int64)
}

// TransferResult is what a Push or Pull did.
type TransferResult struct {
	Entries int   // records transferred or found at the other end
	Blobs   int   // of these records, each counted once
	Bytes   int64 // of those blobs
	Away    int   // blobs that the source names and does not have
	// Refused are entries that were not what they should be, and were left out.
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

// Push gives a remote all results, or those of the last builds, with their blobs. What is there
// already is not sent again.
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
	// A record promises its memos: those go first.
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

// Pull takes everything over that a remote has. Entries that turn out to be damaged are left out
// and named in the result.
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

// pull takes one record over, blobs first.
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
	// A result of this computer is not overwritten by one of another.
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

// forgive notes what is wrong with an entry, or passes on an error that ends the transfer.
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

// pullBlob brings a blob into the store, of several that want it only one.
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
