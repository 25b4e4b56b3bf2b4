package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A source is a cache that is read until it fails.
type source struct {
	Cache
	down    atomic.Bool
	refused atomic.Int64 // entries

	unsigned atomic.Bool // a warning about an unsigned record was shown
}

// maxRefused is the number of damaged entries after which a cache is not used any more: more are
// likely, and each one costs time.
const maxRefused = 5

// live returns the sources that have not failed.
func (s *Store) live() []*source {
	return slices.DeleteFunc(slices.Clone(s.from), func(src *source) bool { return src.down.Load() })
}

// blame handles a source's error about what: it warns, and disables the source unless the error
// concerns only one entry.
func (s *Store) blame(src *source, what string, err error) {
	switch {
	case s.ctx.Err() != nil || errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, ErrUnsigned):
		if src.unsigned.CompareAndSwap(false, true) {
			s.warn("", fmt.Sprintf("remote cache %s: %s: %v; it is ignored, and so are others like it", src.Name(), what, err))
		}
	case errors.Is(err, ErrRefused):
		s.warn("", fmt.Sprintf("remote cache %s: %s: %v", src.Name(), what, err))
		if src.refused.Add(1) >= maxRefused && src.down.CompareAndSwap(false, true) {
			s.warn("", fmt.Sprintf("remote cache %s cannot be used, the build continues without it: too much of it is damaged", src.Name()))
		}
	case src.down.CompareAndSwap(false, true):
		s.warn("", fmt.Sprintf("remote cache %s cannot be used, the build continues without it: %v", src.Name(), err))
	}
}

// ask looks for a record in the caches and returns the first good one, or nil.
func (s *Store) ask(q store.Query) *store.Record {
	for _, src := range s.live() {
		r, err := s.askFor(src, q)
		if err != nil {
			s.blame(src, "record of "+q.Stage, err)
			continue
		}
		s.mu.Lock()
		s.adopted[r.Key] = true
		s.name(r) // a check of the record may read its blobs
		s.mu.Unlock()
		return r
	}
	return nil
}

// askFor gets a record from one cache. The key alone does not prove the contents of a record, but
// its inputs must match.
func (s *Store) askFor(src *source, q store.Query) (*store.Record, error) {
	raw, signer, err := src.Record(s.ctx, q.Key)
	if err != nil {
		return nil, err
	}
	r, err := store.ParseRecord(raw, q.Key)
	if err == nil && (r.Stage != q.Stage || !slices.Equal(r.Fields, q.Fields)) {
		err = errors.New("it is about other inputs")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r.Remote, r.From, r.Signer = src.Name(), src.Name(), signer
	for _, o := range r.Outputs {
		if s.local.Lost(o.Digest) && s.local.Check(o.Blob) != nil {
			return nil, fs.ErrNotExist // no cache has its blob
		}
	}
	return r, nil
}

// fetch gets a blob from the first cache that has it, and returns false if none does. If several
// processes want the same blob, one fetches it.
func (s *Store) fetch(b store.Blob, progress func(n int64)) (found bool, err error) {
	s.mu.Lock()
	keys := slices.Clone(s.keys[b.Digest])
	s.mu.Unlock()
	if len(keys) == 0 || len(s.live()) == 0 {
		return false, nil
	}
	release, err := s.local.LockBlob(s.ctx, b.Digest)
	if err != nil {
		return false, s.local.Advise(fmt.Errorf("fetch blob %s: %w", b.Digest.Short(), err))
	}
	defer release()
	if s.local.Check(b) == nil {
		return true, nil
	}
	for _, src := range s.live() {
		for _, key := range keys {
			err := fetchFrom(s.ctx, s.local, src, key, b, progress)
			var here *localError
			if err == nil || errors.As(err, &here) || s.ctx.Err() != nil {
				return err == nil, err
			}
			s.blame(src, "blob "+b.Digest.Short(), err)
			if src.down.Load() {
				break
			}
		}
	}
	return false, nil
}

// fetchFrom gets a blob that the record under key names from one cache. An error of this computer
// is a *localError.
func fetchFrom(ctx context.Context, local *store.Store, from Cache, key string, b store.Blob, progress func(n int64)) error {
	w, err := local.Create(nil)
	if err != nil {
		return &localError{err}
	}
	defer w.Abort()
	target := &bounded{w: w, size: b.Size}
	if err := from.Fetch(ctx, key, b, target, progress); err != nil {
		if failed := target.failed.Load(); failed != nil {
			return failed
		}
		return err
	}
	if err := w.Truncate(b.Size); err != nil {
		return &localError{err}
	}
	return w.CommitAs(b)
}

// A localError is an error of this computer during a transfer, not of the cache.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// bounded refuses writes beyond size and marks errors of the local disk as localError.
type bounded struct {
	w      io.WriterAt
	size   int64
	failed atomic.Pointer[localError]
}

func (b *bounded) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > b.size-int64(len(p)) {
		return 0, fmt.Errorf("%w: it is longer than the %d bytes it should have", ErrRefused, b.size)
	}
	n, err := b.w.WriteAt(p, off)
	if err != nil {
		b.failed.Store(&localError{err})
	}
	return n, err
}
