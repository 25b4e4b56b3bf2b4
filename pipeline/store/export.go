package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/durable"
)

// The result of stat(2) is stored for each exported file, so that a second export of the same blob
// can be skipped.
type exported struct {
	Path   string `json:"path"`
	Digest Digest `json:"digest"`
	Stamp  string `json:"stamp"`
}

// Export writes a copy of a blob to path, and returns false if path was such a copy already. The
// copy shares the blob's disk blocks where the file system can do that, is never a hard link, keeps
// holes, and appears complete, synced and with the mode perm, or not at all. The directory of path
// must exist.
//
// A file that Export wrote is recognised by size, inode, mtime and ctime; any other file of the
// right size by its digest.
func (s *Store) Export(ctx context.Context, b Blob, path string, perm fs.FileMode) (written bool, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return false, fmt.Errorf("export: %w", err)
	}
	if s.isExported(b, path, perm) {
		return false, nil
	}
	src, err := s.Open(b)
	if err != nil {
		return false, fmt.Errorf("export to %s: %w", path, err)
	}
	defer src.Close()
	if err := s.exportFile(ctx, src, b, path, perm); err != nil {
		return false, Advise(fmt.Errorf("export to %s: %w", path, err), filepath.Dir(path))
	}
	return true, nil
}

// Exported reports whether path already is what Export would write.
func (s *Store) Exported(b Blob, path string, perm fs.FileMode) bool {
	path, err := filepath.Abs(path)
	return err == nil && s.isExported(b, path, perm)
}

// isExported reports whether path is a plain file with the content of b. It gives such a file the
// mode perm.
func (s *Store) isExported(b Blob, path string, perm fs.FileMode) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != b.Size {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := stampOf(f)
	if err != nil {
		return false
	}
	if s.readExported(path) == (exported{path, b.Digest, st.String()}) && info.Mode().Perm() == perm {
		return true
	}
	if got, err := hashFile(f, b.Size); err != nil || got != b.Digest {
		return false
	}
	if info.Mode().Perm() != perm && f.Chmod(perm) != nil {
		return false
	}
	s.noteExported(f, b, path)
	return true
}

// exportFile makes path a copy of src.
func (s *Store) exportFile(ctx context.Context, src *os.File, b Blob, path string, perm fs.FileMode) error {
	f, err := durable.Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copySparse(ctx, f.File, src, b.Size); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	s.noteExported(f.File, b, path)
	return nil
}

// copyChunk is how many bytes are copied between two checks of the context.
const copyChunk = 16 << 20

// copySparse copies size bytes from src to the empty file dst, leaving out holes. Between plain
// files io.Copy is copy_file_range(2), which shares blocks where it can.
func copySparse(ctx context.Context, dst, src *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, end, err := nextData(src, at, size)
		if err != nil {
			return err
		}
		if _, err := src.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(start, io.SeekStart); err != nil {
			return err
		}
		for start < end {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := io.CopyN(dst, src, min(copyChunk, end-start))
			if err != nil {
				return err
			}
			start += n
		}
		at = end
	}
	return dst.Truncate(size)
}

// nextData returns the first extent of data at or after at; start and end are size if there is
// none.
func nextData(f *os.File, at, size int64) (start, end int64, err error) {
	start, err = f.Seek(at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil { // the file system does not support this: treat all as data
		return at, size, nil
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	return min(start, size), min(end, size), nil
}

func (s *Store) exportedPath(path string) string {
	return filepath.Join(s.dir, "exports", DigestOf([]byte(path)).Hex())
}

func (s *Store) readExported(path string) (e exported) {
	b, err := readOwn(s.exportedPath(path))
	if err != nil || unseal(b, &e) != nil {
		return exported{}
	}
	return e
}

// noteExported stores the state of path. A lost or damaged note only costs another hashing, so it
// is not synced and errors are ignored.
func (s *Store) noteExported(f *os.File, b Blob, path string) {
	st, err := stampOf(f)
	if err != nil {
		return
	}
	if text, err := seal(exported{path, b.Digest, st.String()}); err == nil {
		os.WriteFile(s.exportedPath(path), text, 0o644)
	}
}
