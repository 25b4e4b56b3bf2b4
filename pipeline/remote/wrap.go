package remote

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// Options are the remote caches of a build.
type Options struct {
	From []Cache  // asked, in this order, for what the store does not have
	To   []Target // given what the build makes or finds
	// Believe returns an error for a record that was taken from a remote cache, by this build or an
	// earlier one, and is not signed by a key that is trusted. Such a record is made again, and is
	// not sent anywhere. nil: all are believed.
	Believe func(*store.Record) error
	// Warn is called with what is wrong with a remote cache, which is never an error of the build,
	// and the stage that it is about, or "". It may be called from several goroutines.
	Warn func(stage, text string)
}

// A Store is a local store with remote caches behind it. It reads through: a record that is not
// here is looked for in the caches, and a blob is fetched when it is opened or delivered. It writes
// through: results go to the targets, beside the build as far as possible.
type Store struct {
	local *store.Store
	ctx   context.Context
	warn  func(stage, text string)
	from  []*source
	to    *uploads

	believe func(*store.Record) error // nil: all are

	mu      sync.Mutex
	keys    map[store.Digest][]string // of records that name a blob
	adopted map[string]bool           // keys of records from a cache that are not in local yet
}

// Wrap returns the store with remote caches behind it. Transfers end with ctx.
func Wrap(ctx context.Context, local *store.Store, o Options) *Store {
	s := &Store{local: local, ctx: ctx, warn: o.Warn, believe: o.Believe, keys: map[store.Digest][]string{}, adopted: map[string]bool{}}
	if s.warn == nil {
		s.warn = func(string, string) {}
	}
	for _, c := range o.From {
		s.from = append(s.from, &source{Cache: c})
	}
	s.to = newUploads(s, o.To)
	return s
}

// Local returns the store on this computer.
func (s *Store) Local() *store.Store { return s.local }

// Believed asks Options.Believe.
func (s *Store) Believed(r *store.Record) error {
	if s.believe == nil {
		return nil
	}
	return s.believe(r)
}

// Get returns a record of the local store, or else one of a remote cache, which Touch stores. The
// record that was missed may have been damaged although another is returned.
func (s *Store) Get(q store.Query) (*store.Record, store.Miss, error) {
	r, miss, err := s.local.Get(q)
	if r == nil && err == nil {
		r = s.ask(q)
	}
	return r, miss, err
}

// name notes under which key the blobs of a record can be fetched. The lock is held.
func (s *Store) name(r *store.Record) {
	for d := range r.Digests() {
		if !slices.Contains(s.keys[d], r.Key) {
			s.keys[d] = append(s.keys[d], r.Key)
		}
	}
}

// Touch notes that the build goes on with a record, and stores it if it is from a remote cache. Its
// blobs can be fetched from now on.
func (s *Store) Touch(r *store.Record, now time.Time) error {
	s.mu.Lock()
	adopted := s.adopted[r.Key]
	delete(s.adopted, r.Key)
	s.name(r)
	s.mu.Unlock()
	if adopted {
		if err := s.local.Save(r); err != nil {
			return err
		}
	}
	s.to.add(r)
	return s.local.Touch(r, now)
}

// Save stores a record that was made here, and sends it.
func (s *Store) Save(r *store.Record) error {
	err := s.local.Save(r)
	if err == nil {
		s.to.add(r)
	}
	return err
}

// Open opens a blob, and fetches it first if it is not here or damaged. If no cache gives it, the
// error is a *store.BlobError.
func (s *Store) Open(b store.Blob) (*os.File, error) {
	if err := s.bring(b, nil); err != nil {
		return nil, err
	}
	return s.local.Open(b)
}

// Deliver is Open for a blob that the build is for, which goes to every target. progress, which may
// be nil, is called with bytes as they arrive.
func (s *Store) Deliver(b store.Blob, progress func(n int64)) error {
	s.to.deliver(b)
	return s.bring(b, progress)
}

// bring fetches a blob if it is not in the local store.
func (s *Store) bring(b store.Blob, progress func(n int64)) error {
	err := s.local.Check(b)
	var bad *store.BlobError
	if !errors.As(err, &bad) {
		return err
	}
	if found, err := s.fetch(b, progress); found || err != nil {
		return err
	}
	s.local.Lose(b.Digest)
	return err
}

// Flush sends what has not been sent yet, and waits for it. show, which is called if there are
// targets, returns a function that is called with bytes sent and known to be ahead.
func (s *Store) Flush(ctx context.Context, show func(name, reason string) (count func(done, total int64))) {
	s.to.flush(ctx, show)
}
