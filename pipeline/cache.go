package pipeline

import (
	"context"
	"os"
	"time"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Cache keeps results between builds. A *Store keeps them on this computer; package remote wraps
// one so that others share them.
type Cache interface {
	// Local returns the store on this computer, where results are made and locked.
	Local() *Store
	// Get returns the record that q asks for if the build can use it, or nil. miss says why the
	// local store does not have it.
	Get(q store.Query) (r *store.Record, miss store.Miss, err error)
	// Believed returns an error if a record in the local store came from a remote cache and lacks
	// the signature that this build requires.
	Believed(r *store.Record) error
	// Touch records that the build used a record from Get at the time now.
	Touch(r *store.Record, now time.Time) error
	// Save stores the record of a new result.
	Save(r *store.Record) error
	// Open opens a blob of a record. If no cache has the blob, the error is a *store.BlobError, and
	// Get does not return the record again.
	Open(b Blob) (*os.File, error)
	// Deliver fetches a requested output of the build into the local store. progress, which may be
	// nil, is called with the number of bytes as they arrive.
	Deliver(b Blob, progress func(n int64)) error
	// Flush ends a build and waits for uploads. If uploads remain, it calls show with their name
	// and reason, and count with the bytes sent and the total known so far.
	Flush(ctx context.Context, show func(name, reason string) (count func(done, total int64)))
}

// Types of the packages below that stages use.
type (
	Blob   = store.Blob
	Digest = store.Digest
	Output = store.Output
	Store  = store.Store
	Task   = progress.Task
	Writer = store.Writer
)

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return store.DigestOf(b) }
