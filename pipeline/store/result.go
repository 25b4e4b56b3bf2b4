package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// A Query asks for the result of a stage.
type Query struct {
	Key    string
	Stage  string  // the stage that made the result
	Fields []Field // of the key
}

// A Miss says why a store has no usable record.
type Miss struct {
	Reason string // "" if there is no record
	// Damage is true if there was a record, and it or one of its blobs was damaged.
	Damage bool
}

// Local returns s. It is the local store of a cache that wraps it.
func (s *Store) Local() *Store { return s }

// Load returns the record under a key, or nil, without checking its blobs.
func (s *Store) Load(key string) (*Record, Miss, error) {
	b, err := readOwn(s.recordPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Miss{}, nil
	}
	if err != nil {
		return nil, Miss{}, err
	}
	r, err := ParseRecord(b, key)
	if err != nil {
		return nil, Miss{fmt.Sprintf("its record in the cache is damaged: %v", err), true}, nil
	}
	return r, Miss{}, nil
}

// Get returns the record under the key of q if it and its blobs are good, or nil. A record from a
// remote cache may have missing blobs, until Lose is called for one of them.
func (s *Store) Get(q Query) (*Record, Miss, error) {
	r, miss, err := s.Load(q.Key)
	if r == nil {
		return nil, miss, err
	}
	for _, o := range r.Outputs {
		err := s.Check(o.Blob)
		var bad *BlobError
		switch {
		case err == nil:
		case !errors.As(err, &bad):
			return nil, Miss{}, fmt.Errorf("check %s: %w", o.Name, err)
		case !bad.Missing || r.Remote == "":
			return nil, Miss{fmt.Sprintf("%s: %v", o.Name, bad), true}, nil
		case s.Lost(o.Digest):
			return nil, Miss{Reason: fmt.Sprintf("%s is not here, and %s does not give it", o.Name, r.Remote)}, nil
		}
	}
	return r, Miss{}, nil
}

// Forget removes the record under a key. Its blobs stay until Prune.
func (s *Store) Forget(key string) error {
	if err := os.Remove(s.recordPath(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.Advise(fmt.Errorf("remove record %s: %w", ShortKey(key), err))
	}
	return nil
}

// Complete reports whether the store has all blobs of a record, undamaged.
func (s *Store) Complete(r *Record) bool {
	for _, o := range r.Outputs {
		if s.Check(o.Blob) != nil {
			return false
		}
	}
	return true
}

// Touch records that a record and its memos were used at the time now. In a store that cannot be
// written it does nothing.
func (s *Store) Touch(r *Record, now time.Time) error {
	for _, key := range append([]string{r.Key}, r.Memos...) {
		os.Chtimes(s.recordPath(key), now, now)
	}
	return nil
}

// Save stores a record whose blobs are in the store or in r.Remote.
func (s *Store) Save(r *Record) error {
	b, err := seal(r)
	if err == nil {
		err = s.writeFile(s.recordPath(r.Key), b)
	}
	if err != nil {
		return s.Advise(fmt.Errorf("record result: %w", err))
	}
	os.Chtimes(s.recordPath(r.Key), r.Created, r.Created)
	return nil
}

// Deliver returns an error unless the store has the blob, undamaged: a local store does not fetch
// blobs.
func (s *Store) Deliver(b Blob, _ func(n int64)) error { return s.losing(b, s.Check(b)) }

// Believed returns nil: without remote caches, no record has to be signed.
func (s *Store) Believed(*Record) error { return nil }

// Flush does nothing: a local store does not upload.
func (s *Store) Flush(context.Context, func(name, reason string) (count func(done, total int64))) {}

// losing calls Lose if err says that a blob cannot be used. It returns err.
func (s *Store) losing(b Blob, err error) error {
	var bad *BlobError
	if errors.As(err, &bad) {
		s.Lose(b.Digest)
	}
	return err
}

// Lose records that no cache has a blob: Get does not return a record that names it while the blob
// is missing.
func (s *Store) Lose(d Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = map[Digest]bool{}
	}
	s.lost[d] = true
}

// Lost reports whether Lose was called for a blob. The blob may have been made since.
func (s *Store) Lost(d Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[d]
}
