package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Cache is a place beyond this computer, such as a registry, where several stores keep records
// and the blobs that they name. Its methods may be called from several goroutines.
//
// A Cache tries again what may pass, and bounds how long anything takes. An error that matches
// fs.ErrNotExist says that it does not have what was asked for; one that matches ErrRefused, that
// what it has is not what it should be. Any other says that it cannot be used.
type Cache interface {
	// Name is what people call it.
	Name() string
	// Keys lists the keys of all records.
	Keys(ctx context.Context) ([]string, error)
	// Record returns the record under key as Put was given it, and the ID of the key that has
	// signed it, or "" where no signature is asked for. One that is not signed as it has to be is
	// an error that matches ErrUnsigned.
	Record(ctx context.Context, key string) (record []byte, signer string, err error)
	// Fetch writes a blob that the record under key names to w, in any order. progress, which may
	// be nil, is called with bytes as they arrive.
	Fetch(ctx context.Context, key string, b store.Blob, w io.WriterAt, progress func(n int64)) error
	// Put stores a record with those of its blobs that are given, blobs first. What is there
	// already stays as it is. open opens a blob; progress, which may be nil, is called with bytes
	// that are dealt with.
	Put(ctx context.Context, key string, record []byte, blobs []store.Blob, open func(store.Blob) (*os.File, error), progress func(n int64)) error
}

// ErrRefused is in the error of a Cache that holds something other than what its name or digest
// says.
var ErrRefused = store.ErrRefused

// ErrUnsigned is in the error for a record without the signature of a key that is trusted.
var ErrUnsigned = errors.New("it is not signed by a trusted key")

// A Trust says whose records of a cache are believed, and signs those that are put there. What is
// signed is the SHA-256 of a record, which names its key, its inputs and the blobs by SHA-256.
type Trust struct {
	// Verify returns the ID of the key that has signed a text. nil: every record is believed.
	Verify func(text, signature []byte) (signer string, err error)
	// Sign signs a text. nil: records are put without a signature.
	Sign func(text []byte) (signature []byte, err error)
}

// text is what is signed of a record.
func text(record []byte) []byte { return []byte(store.DigestOf(bytes.TrimSpace(record))) }

// A Target is a cache to which the results of a build go.
type Target struct {
	Cache
	// Max has everything sent: results of all stages and memos, with all their blobs. Otherwise all
	// stages' records go, but only the blobs that the build delivers and small ones: enough for a
	// build in which nothing has changed.
	Max bool
}
