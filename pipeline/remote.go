package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// A Remote is a cache beyond this computer, such as a registry, that several
// stores share: records by key, and the blobs that they name. Its methods may
// be called from several goroutines.
//
// A Remote tries again what may pass, and bounds how long anything takes. An
// error that matches fs.ErrNotExist says that it does not have what was asked
// for; one that matches ErrRefused, that what it has is not what it should
// be. Any other says that it cannot be used.
type Remote interface {
	// Name is what people call it.
	Name() string
	// Keys lists the keys of all records.
	Keys(ctx context.Context) ([]string, error)
	// Record returns the record under key as Put was given it.
	Record(ctx context.Context, key string) ([]byte, error)
	// Fetch writes a blob that the record under key names to w, in any order.
	// progress, which may be nil, is told of bytes as they arrive.
	Fetch(ctx context.Context, key string, b Blob, w io.WriterAt, progress func(n int64)) error
	// Put stores a record with those of its blobs that are given, blobs
	// first. Nothing happens to what is there already. open opens a blob;
	// progress, which may be nil, is told of bytes that are dealt with.
	Put(ctx context.Context, key string, record []byte, blobs []Blob, open func(Blob) (*os.File, error), progress func(n int64)) error
}

// ErrRefused is in the error of a Remote that holds something other than what
// its name or digest says.
var ErrRefused = errors.New("refused")

// Remotes are the remote caches of a build.
type Remotes struct {
	From []Remote // asked, in this order, for what the store does not have
	To   []Target // given what the build made or found
	// Warn is told what is wrong with a remote, which is never an error of
	// the build. It may be called from several goroutines.
	Warn func(text string)
}

// A Target is a remote to which a build's results go.
type Target struct {
	Remote
	// Max has everything sent: results of all stages and memos, with all
	// their blobs. Otherwise all stages' records go, but only the blobs of
	// what the build delivers and small ones: enough for a build in which
	// nothing has changed.
	Max bool
}

// Connect returns the store with remotes behind it. A blob that one of them
// has is fetched when it is first opened. Transfers end with ctx.
func (s *Store) Connect(ctx context.Context, r Remotes) *Store {
	b := &behind{ctx: ctx, warn: r.Warn, to: r.To, keys: map[Digest][]string{}}
	if b.warn == nil {
		b.warn = func(string) {}
	}
	for _, remote := range r.From {
		b.from = append(b.from, &source{Remote: remote})
	}
	return &Store{dir: s.dir, behind: b}
}

// behind is what stands behind a store. A nil *behind is nothing.
type behind struct {
	ctx  context.Context
	warn func(text string)
	from []*source
	to   []Target

	mu   sync.Mutex
	keys map[Digest][]string // of records that name a blob
}

// A source is a remote that is asked until it fails.
type source struct {
	Remote
	down    atomic.Bool
	refused atomic.Int64 // entries
}

// maxRefused is how many damaged entries it takes for a remote to be left
// alone: where there are several, more are to be expected, and each one costs
// time.
const maxRefused = 5

// live returns the sources that can be asked.
func (b *behind) live() []*source {
	if b == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(b.from), func(s *source) bool { return s.down.Load() })
}

// note remembers under which key a remote finds a record's blobs.
func (b *behind) note(a *action) {
	if b == nil || len(b.from) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for d := range a.digests() {
		if !slices.Contains(b.keys[d], a.Key) {
			b.keys[d] = append(b.keys[d], a.Key)
		}
	}
}

func (b *behind) keysOf(d Digest) []string {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys[d])
}

// blame deals with a source's error about what: it warns, and leaves the
// source alone from now on unless the error is about one entry only.
func (b *behind) blame(src *source, what string, err error) {
	switch {
	case b.ctx.Err() != nil || errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, ErrRefused):
		b.warn(fmt.Sprintf("remote cache %s: %s: %v", src.Name(), what, err))
		if src.refused.Add(1) >= maxRefused && src.down.CompareAndSwap(false, true) {
			b.warn(fmt.Sprintf("remote cache %s cannot be used, the build goes on without it: too much of it is damaged", src.Name()))
		}
	case src.down.CompareAndSwap(false, true):
		b.warn(fmt.Sprintf("remote cache %s cannot be used, the build goes on without it: %v", src.Name(), err))
	}
}

// ensure brings a blob into the store if it is not there and a remote has it.
// The error is a *BlobError if it cannot be had.
func (s *Store) ensure(b Blob, progress func(n int64)) error {
	err := s.check(b)
	var bad *BlobError
	if !errors.As(err, &bad) || len(s.behind.live()) == 0 {
		return err
	}
	if fetched := s.fetch(b, progress); fetched == nil || !errors.Is(fetched, fs.ErrNotExist) {
		return fetched
	}
	return err
}

// fetch gets a blob from the first remote that gives it. Of several processes
// that want the same blob one fetches it. The error matches fs.ErrNotExist if
// no remote has it.
func (s *Store) fetch(b Blob, progress func(n int64)) error {
	keys := s.behind.keysOf(b.Digest)
	if len(keys) == 0 {
		return fs.ErrNotExist
	}
	lock, err := waitLock(s.behind.ctx, s.lockPath(fetchLock(b.Digest)), exclusive, true, nil)
	if err != nil {
		return s.advise(fmt.Errorf("fetch blob %s: %w", b.Digest.Short(), err))
	}
	defer lock.release()
	if s.check(b) == nil {
		return nil
	}
	for _, src := range s.behind.live() {
		for _, key := range keys {
			err := s.fetchFrom(s.behind.ctx, src, key, b, progress)
			var local *localError
			if err == nil || errors.As(err, &local) || s.behind.ctx.Err() != nil {
				return err
			}
			s.behind.blame(src, "blob "+b.Digest.Short(), err)
			if src.down.Load() {
				break
			}
		}
	}
	return fs.ErrNotExist
}

// fetchLockPrefix sets the locks of blobs apart from those of actions.
const fetchLockPrefix = "fetch-"

func fetchLock(d Digest) string { return fetchLockPrefix + d.Hex() }

// fetchFrom gets a blob that the record under key names from one remote.
func (s *Store) fetchFrom(ctx context.Context, remote Remote, key string, b Blob, progress func(n int64)) error {
	ws, err := s.newWorkspace()
	if err != nil {
		return &localError{err}
	}
	defer ws.close()
	w, err := newWriter(s, ws, func(Blob, error) {})
	if err != nil {
		return &localError{err}
	}
	defer w.Abort()
	target := &bounded{w: w, size: b.Size}
	if err := remote.Fetch(ctx, key, b, target, progress); err != nil {
		if failed := target.failed.Load(); failed != nil {
			return failed
		}
		return err
	}
	if err := w.Truncate(b.Size); err != nil {
		return &localError{err}
	}
	return w.commitAs(b)
}

// A localError is trouble of this computer in the middle of a transfer, for
// which the remote is not to blame.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// bounded writes no further than size, and tells the disk's errors from the
// remote's.
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
