package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
)

// A Writer makes one blob. It hashes sequential writes as they come; after writes at random
// offsets, Commit reads the file once more. Only WriteAt may be called by several goroutines at
// once.
type Writer struct {
	store  *Store
	f      *os.File
	done   func(Blob, error) // is called when the writer is finished
	closed bool

	sequential hash.Hash // of the first `end` bytes
	end        int64     // where Write continues
	mu         sync.Mutex
	random     bool // the hash is not that of the file any more
}

var (
	_ io.Writer   = (*Writer)(nil)
	_ io.WriterAt = (*Writer)(nil)
)

// errWriterClosed is the error of a Writer after Commit or Abort.
var errWriterClosed = errors.New("blob writer used after Commit or Abort")

// Create begins a blob. done, if not nil, is called when the writer is finished.
func (s *Store) Create(done func(Blob, error)) (*Writer, error) {
	f, err := s.createTemp()
	if err != nil {
		return nil, err
	}
	if done == nil {
		done = func(Blob, error) {}
	}
	return &Writer{store: s, f: f, done: done, sequential: sha256.New()}, nil
}

// Write appends p to what Write has written so far.
func (w *Writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, errWriterClosed
	}
	n, err := w.f.WriteAt(p, w.end)
	w.sequential.Write(p[:n])
	w.end += int64(n)
	return n, w.store.Advise(err)
}

// WriteAt writes p at offset off.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	if w.closed {
		return 0, errWriterClosed
	}
	w.markRandom()
	n, err := w.f.WriteAt(p, off)
	return n, w.store.Advise(err)
}

// Truncate sets the size of the blob, with zeros (a hole) where it grows.
func (w *Writer) Truncate(size int64) error {
	if w.closed {
		return errWriterClosed
	}
	w.markRandom()
	return w.store.Advise(w.f.Truncate(size))
}

// File returns the file behind the writer, for code that wants an *os.File or passes it to another
// program. It must not be closed.
func (w *Writer) File() *os.File {
	w.markRandom()
	return w.f
}

func (w *Writer) markRandom() {
	w.mu.Lock()
	w.random = true
	w.mu.Unlock()
}

// Commit syncs the content and moves it into the store. On an error nothing is left behind.
func (w *Writer) Commit() (Blob, error) { return w.finish(nil) }

// ErrRefused matches the error of CommitAs for other content.
var ErrRefused = errors.New("refused")

// CommitAs is Commit for content that should be b. The error matches ErrRefused if it is not.
func (w *Writer) CommitAs(b Blob) error {
	_, err := w.finish(&b)
	return err
}

func (w *Writer) finish(want *Blob) (Blob, error) {
	if w.closed {
		return Blob{}, errWriterClosed
	}
	w.closed = true
	b, err := w.commit(want)
	w.f.Close()
	if err != nil {
		os.Remove(w.f.Name())
		err = w.store.Advise(fmt.Errorf("store blob: %w", err))
	}
	w.done(b, err)
	return b, err
}

// commit installs the content. If want is not nil, the content must be that blob.
func (w *Writer) commit(want *Blob) (Blob, error) {
	info, err := w.f.Stat()
	if err != nil {
		return Blob{}, err
	}
	b := Blob{Size: info.Size()}
	if w.random || b.Size != w.end {
		b.Digest, err = hashFile(w.f, b.Size)
		if err != nil {
			return Blob{}, err
		}
	} else {
		b.Digest = digestOfHash(w.sequential)
	}
	if want != nil && *want != b {
		return Blob{}, fmt.Errorf("%w: its content has the digest %s", ErrRefused, b.Digest.Short())
	}
	return b, w.store.install(w.f, b)
}

// Abort drops what was written. After Commit it does nothing, so it can be deferred.
func (w *Writer) Abort() {
	if w.closed {
		return
	}
	w.closed = true
	w.f.Close()
	os.Remove(w.f.Name())
	w.done(Blob{}, errWriterAborted)
}

var errWriterAborted = errors.New("aborted")

// hashFile returns the digest of the first size bytes of f without moving its offset.
func hashFile(f *os.File, size int64) (Digest, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{h}, io.NewSectionReader(f, 0, size), make([]byte, 1<<20))
	if err != nil {
		return "", err
	}
	if n != size {
		return "", fmt.Errorf("%s: %w", f.Name(), io.ErrUnexpectedEOF)
	}
	return digestOfHash(h), nil
}

// onlyWriter hides other methods, so that io.CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }
