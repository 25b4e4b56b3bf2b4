package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/durable"
)

// A BlobError says that a blob cannot be used.
type BlobError struct {
	Digest Digest
	// Missing is true if the blob is not there, false if it was there with the wrong content and
	// has been removed.
	Missing bool
	Detail  string
}

func (e *BlobError) Error() string {
	if e.Missing {
		return fmt.Sprintf("blob %s is missing from the cache", e.Digest.Short())
	}
	return fmt.Sprintf("blob %s was damaged (%s) and has been removed", e.Digest.Short(), e.Detail)
}

// Put stores the content of r.
func (s *Store) Put(ctx context.Context, r io.Reader) (Blob, error) {
	w, err := s.Create(nil)
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if _, err := io.CopyBuffer(onlyWriter{w}, contextReader{ctx, r}, make([]byte, 256<<10)); err != nil {
		return Blob{}, fmt.Errorf("store blob: %w", err)
	}
	return w.Commit()
}

// Open opens a blob for reading, after checking it as the package comment says. If it is missing or
// damaged, the error is a *BlobError.
func (s *Store) Open(b Blob) (*os.File, error) {
	f, err := s.openChecked(b)
	return f, s.losing(b, err)
}

func (s *Store) openChecked(b Blob) (*os.File, error) {
	if _, err := ParseDigest(string(b.Digest)); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(b.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &BlobError{Digest: b.Digest, Missing: true}
	}
	if err != nil {
		return nil, err
	}
	if err := s.verify(f, b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Check returns the error that Open would return, without opening the blob.
func (s *Store) Check(b Blob) error {
	f, err := s.openChecked(b)
	if err != nil {
		return err
	}
	return f.Close()
}

// Has reports whether the store has a blob, good or damaged.
func (s *Store) Has(d Digest) bool {
	_, err := os.Stat(s.blobPath(d))
	return err == nil
}

// verify checks the open blob f. A damaged blob is removed.
func (s *Store) verify(f *os.File, b Blob) error {
	damage, err := s.inspect(f, b, false)
	if err != nil {
		return err
	}
	if damage != "" {
		return s.removeDamaged(f, b.Digest, damage)
	}
	return nil
}

// inspect compares the open blob f with its stamp. If the stamp does not match or rehash is set, it
// hashes the blob. It returns the damage, or "".
func (s *Store) inspect(f *os.File, b Blob, rehash bool) (damage string, err error) {
	before, err := stampOf(f)
	if err != nil {
		return "", err
	}
	if before.size != b.Size {
		return fmt.Sprintf("it has %d bytes instead of %d", before.size, b.Size), nil
	}
	stamped := s.readStamp(b.Digest) == before
	if stamped && !rehash {
		return "", nil
	}
	got, err := hashFile(f, b.Size)
	if err != nil {
		// A read error of the disk counts as damage.
		return err.Error(), nil
	}
	if got != b.Digest {
		return "its content has the digest " + got.Short(), nil
	}
	if after, err := stampOf(f); err == nil && after == before && !stamped {
		s.writeStamp(b.Digest, before)
	}
	return "", nil
}

// removeDamaged removes the blob that is open as f, unless another process has put a good one in
// its place, and returns the *BlobError.
func (s *Store) removeDamaged(f *os.File, d Digest, detail string) error {
	err := s.withBlobsLocked(func() error {
		if !durable.SameFile(f, f.Name()) {
			return nil
		}
		return os.Remove(f.Name())
	})
	if err != nil {
		return s.Advise(fmt.Errorf("blob %s is damaged (%s); remove it: %w", d.Short(), detail, err))
	}
	return &BlobError{Digest: d, Detail: detail}
}

// install moves the complete temporary file f to its place as blob b. If the blob is there and
// good, the temporary file is dropped. durable.File does not fit: a blob's name is known only when
// its content is complete, and the rename happens under a lock that must not wait for a sync.
func (s *Store) install(f *os.File, b Blob) error {
	if s.Check(b) == nil {
		return os.Remove(f.Name())
	}
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	path := s.blobPath(b.Digest)
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	err := s.withBlobsLocked(func() error { return os.Rename(f.Name(), path) })
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if st, err := stampOf(f); err == nil {
		s.writeStamp(b.Digest, st)
	}
	return nil
}

// withBlobsLocked runs fn while no other process adds or removes a blob, so that a damaged blob is
// not confused with its replacement.
func (s *Store) withBlobsLocked(fn func() error) error {
	// The lock is held only for a rename, so waiting needs no cancellation.
	l, err := durable.WaitLock(context.Background(), s.lockPath("blobs"), durable.Exclusive, durable.LockOptions{Perm: 0o644})
	if err != nil {
		return err
	}
	defer l.Release()
	return fn()
}

// contextReader stops reading when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
