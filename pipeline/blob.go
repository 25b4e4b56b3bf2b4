package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A BlobError says that a blob cannot be used.
type BlobError struct {
	Digest Digest
	// Missing is true if the blob is not there, false if it was there with
	// the wrong content and has been removed.
	Missing bool
	Detail  string
}

func (e *BlobError) Error() string {
	if e.Missing {
		return fmt.Sprintf("blob %s is missing from the cache", e.Digest.Short())
	}
	return fmt.Sprintf("blob %s was damaged (%s) and has been removed", e.Digest.Short(), e.Detail)
}

// Put stores what r gives.
func (s *Store) Put(ctx context.Context, r io.Reader) (Blob, error) {
	ws, err := s.newWorkspace()
	if err != nil {
		return Blob{}, err
	}
	defer ws.close()
	w, err := newWriter(s, ws, func(Blob, error) {})
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if _, err := io.CopyBuffer(onlyWriter{w}, contextReader{ctx, r}, make([]byte, 256<<10)); err != nil {
		return Blob{}, fmt.Errorf("store blob: %w", err)
	}
	return w.Commit()
}

// Open opens a blob for reading, after checking it as the package comment
// says. A blob that is missing or damaged is fetched if a remote has it; else
// the error is a *BlobError.
func (s *Store) Open(b Blob) (*os.File, error) {
	f, err := s.openHere(b)
	var bad *BlobError
	if !errors.As(err, &bad) || len(s.behind.live()) == 0 {
		return f, err
	}
	if err := s.ensure(b, nil); err != nil {
		return nil, err
	}
	return s.openHere(b)
}

// openHere is Open without remotes.
func (s *Store) openHere(b Blob) (*os.File, error) {
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

// check is openHere for callers that only want to know.
func (s *Store) check(b Blob) error {
	f, err := s.openHere(b)
	if err != nil {
		return err
	}
	return f.Close()
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

// inspect compares the open blob f with its stamp or, if that does not match
// or rehash is set, hashes it. It returns what is wrong, or "".
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
		// A disk that cannot give the bytes back is as bad as wrong bytes.
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

// removeDamaged removes the blob that is open as f, unless another process
// has put a good one in its place, and returns the *BlobError.
func (s *Store) removeDamaged(f *os.File, d Digest, detail string) error {
	err := s.withBlobsLocked(func() error {
		if !samePath(f, f.Name()) {
			return nil
		}
		return os.Remove(f.Name())
	})
	if err != nil {
		return s.advise(fmt.Errorf("blob %s is damaged (%s); remove it: %w", d.Short(), detail, err))
	}
	return &BlobError{Digest: d, Detail: detail}
}

// install moves the complete temporary file f to its place as blob b. If the
// blob is there and good, the temporary file is dropped.
func (s *Store) install(f *os.File, b Blob) error {
	if s.check(b) == nil {
		return os.Remove(f.Name())
	}
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	path := s.blobPath(b.Digest)
	if err := mkdirSynced(filepath.Dir(path)); err != nil {
		return err
	}
	err := s.withBlobsLocked(func() error { return os.Rename(f.Name(), path) })
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if st, err := stampOf(f); err == nil {
		s.writeStamp(b.Digest, st)
	}
	return nil
}

// withBlobsLocked runs fn while no other process gives a blob its name or
// takes it away, so that a damaged blob is not confused with its successor.
func (s *Store) withBlobsLocked(fn func() error) error {
	f, err := os.OpenFile(s.lockPath("blobs"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX); err != nil {
		return err
	}
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

// A stamp is what stat(2) says about a file that changes whenever its content
// does. The zero stamp matches no file.
type stamp struct {
	size         int64
	inode        uint64
	mtime, ctime int64 // ns since 1970
}

func stampOf(f *os.File) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stampOfStat(&st), nil
}

func stampOfStat(st *unix.Stat_t) stamp {
	return stamp{st.Size, st.Ino, st.Mtim.Nano(), st.Ctim.Nano()}
}

const stampFormat = "1 size=%d inode=%d mtime=%d ctime=%d\n"

func (st stamp) String() string {
	return fmt.Sprintf(stampFormat, st.size, st.inode, st.mtime, st.ctime)
}

func parseStamp(text string) stamp {
	var st stamp
	fmt.Sscanf(text, stampFormat, &st.size, &st.inode, &st.mtime, &st.ctime)
	if st.String() != text {
		return stamp{}
	}
	return st
}

func (s *Store) readStamp(d Digest) stamp {
	b, err := os.ReadFile(s.stampPath(d))
	if err != nil {
		return stamp{}
	}
	return parseStamp(string(b))
}

// writeStamp records that a blob was found good. A stamp that is lost or torn
// costs one more hashing, so it is neither synced nor an error.
func (s *Store) writeStamp(d Digest, st stamp) {
	path := s.stampPath(d)
	os.Mkdir(filepath.Dir(path), 0o755)
	os.WriteFile(path, []byte(st.String()), 0o644)
}

// touch notes that the action under key was used at now. A store that cannot
// be written forgets it.
func (s *Store) touch(key string, now time.Time) {
	os.Chtimes(s.actionPath(key), now, now)
}
