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
	// Get returns the record that q asks for if the build can go on with it, or nil. miss says why
	// the local store has none.
	Get(q store.Query) (r *store.Record, miss store.Miss, err error)
	// Believed returns an error if a record that the local store has was taken from a remote cache
	// and is not signed as the build asks for by now.
	Believed(r *store.Record) error
	// Touch notes that the build goes on with a record of Get at now.
	Touch(r *store.Record, now time.Time) error
	// Save stores the record of a result that was made.
	Save(r *store.Record) error
	// Open opens a blob of a record. If it is nowhere, the error is a *store.BlobError, and Get
	// does not return the record again.
	Open(b Blob) (*os.File, error)
	// Deliver is Open for a blob that the build is for: it is in the local store afterwards.
	// progress, which may be nil, is called with bytes as they arrive.
	Deliver(b Blob, progress func(n int64)) error
	// Flush ends a build. If something is left to do, show is called with what that is, and count
	// with the bytes that are done and known to be ahead.
	Flush(ctx context.Context, show func(name, reason string) (count func(done, total int64)))
}

// What stages need of the packages below.
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
