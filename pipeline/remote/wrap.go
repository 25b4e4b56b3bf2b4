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
	From []Cache  // read, in this order, for what the store does not have
	To   []Target // receive what the build makes or finds
	// Believe returns an error for a record that came from a remote cache, in this build or an
	// earlier one, and is not signed by a trusted key. Such a result is made again, and its record
	// is not sent to targets. If nil, all records are trusted.
	Believe func(*store.Record) error
	// Warn is called with the error of a remote cache, which never fails the build, and with the
	// stage that it concerns, or "". It may be called from several goroutines.
	Warn func(stage, text string)
}

// A Store is a local store that reads and writes through to remote caches. A record that the local
// store lacks is looked up in the caches, and a blob is fetched when it is opened or delivered.
// Results are sent to the targets, while the build runs where possible.
type Store struct {
	local *store.Store
	ctx   context.Context
	warn  func(stage, text string)
	from  []*source
	to    *uploads

	believe func(*store.Record) error // nil: all are trusted

	mu      sync.Mutex
	keys    map[store.Digest][]string // of records that name a blob
	adopted map[string]bool           // keys of records from a cache that are not in local yet
}

// Wrap returns a Store for a local store and remote caches. Transfers end with ctx.
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

// Believed calls Options.Believe.
func (s *Store) Believed(r *store.Record) error {
	if s.believe == nil {
		return nil
	}
	return s.believe(r)
}

// Get returns a record of the local store or, if that lacks it, of a remote cache; Touch stores the
// latter. The miss may report damage of the local record although a remote one is returned.
func (s *Store) Get(q store.Query) (*store.Record, store.Miss, error) {
	r, miss, err := s.local.Get(q)
	if r == nil && err == nil {
		r = s.ask(q)
	}
	return r, miss, err
}

// name records the key under which the blobs of a record can be fetched. The caller holds the lock.
func (s *Store) name(r *store.Record) {
	for d := range r.Digests() {
		if !slices.Contains(s.keys[d], r.Key) {
			s.keys[d] = append(s.keys[d], r.Key)
		}
	}
}

// Touch records the use of a record, and stores it if it is from a remote cache. From then on its
// blobs can be fetched.
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

// Save stores a record of this computer and sends it to the targets.
func (s *Store) Save(r *store.Record) error {
	err := s.local.Save(r)
	if err == nil {
		s.to.add(r)
	}
	return err
}

// Open opens a blob, and fetches it first if it is missing or damaged. If no cache has it, the
// error is a *store.BlobError.
func (s *Store) Open(b store.Blob) (*os.File, error) {
	if err := s.bring(b, nil); err != nil {
		return nil, err
	}
	return s.local.Open(b)
}

// Deliver fetches a requested output of the build and sends it to every target. progress, which may
// be nil, is called with the number of bytes as they arrive.
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

// Flush sends what has not been sent yet and waits for it. If there are targets, it calls show, and
// then the returned function with the bytes sent and the total known so far.
func (s *Store) Flush(ctx context.Context, show func(name, reason string) (count func(done, total int64))) {
	s.to.flush(ctx, show)
}
