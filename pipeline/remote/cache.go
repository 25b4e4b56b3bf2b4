package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Cache is a remote place, such as a registry, where several stores keep records and the blobs
// that they name. Its methods may be called from several goroutines.
//
// A Cache retries after temporary errors and limits the time of each operation. An error that
// matches fs.ErrNotExist means that the cache does not have the entry; ErrRefused means that the
// entry is damaged or wrong. Any other error means that the cache cannot be used.
type Cache interface {
	// Name returns the name that users give the cache.
	Name() string
	// Keys lists the keys of all records.
	Keys(ctx context.Context) ([]string, error)
	// Record returns the record that Put stored under key, and the ID of the key that signed it, or
	// "" if no signature is required. The error for a record without a required signature matches
	// ErrUnsigned.
	Record(ctx context.Context, key string) (record []byte, signer string, err error)
	// Fetch writes a blob that the record under key names to w, in any order. progress, which may
	// be nil, is called with the number of bytes as they arrive.
	Fetch(ctx context.Context, key string, b store.Blob, w io.WriterAt, progress func(n int64)) error
	// Put stores the given blobs of a record and then the record. Existing entries stay unchanged.
	// open opens a blob; progress, which may be nil, is called with the number of bytes sent or
	// skipped.
	Put(ctx context.Context, key string, record []byte, blobs []store.Blob, open func(store.Blob) (*os.File, error), progress func(n int64)) error
}

// ErrRefused matches the error for an entry whose content does not match its name or digest.
var ErrRefused = store.ErrRefused

// ErrUnsigned matches the error for a record without a signature by a trusted key.
var ErrUnsigned = errors.New("it is not signed by a trusted key")

// A Trust verifies the signatures of records that come from a cache and signs records that are put
// there. The signature covers the SHA-256 of the record, which names its key, its inputs and its
// blobs by SHA-256.
type Trust struct {
	// Verify returns the ID of the key that signed a text. If nil, every record is trusted.
	Verify func(text, signature []byte) (signer string, err error)
	// Sign signs a text. If nil, records are put without a signature.
	Sign func(text []byte) (signature []byte, err error)
}

// text returns the text that the signature of a record covers.
func text(record []byte) []byte { return []byte(store.DigestOf(bytes.TrimSpace(record))) }

// A Target is a cache to which the results of a build go.
type Target struct {
	Cache
	// Max sends everything: results of all stages and memos, with all their blobs. Otherwise the
	// records of all stages are sent, but only small blobs and those that the build delivers. That
	// is enough for a build in which nothing has changed.
	Max bool
}
