package remote

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/sovereign-sql/sov/internal/durable"
)

// errReadOnly is the error of reading a cache that is being written, and the reverse.
var errReadOnly = errors.New("the file is open for the other direction")

// An Archive is a cache that is being written to one file, a tar.
type Archive struct {
	*PieceCache
	out *writtenArchive
}

// Create creates an archive in a temporary file. Commit renames it to path; Abort, which may be
// deferred, removes it.
func Create(path string) (*Archive, error) {
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return nil, err
	}
	out := &writtenArchive{f: f, path: path, tar: tar.NewWriter(f), has: map[string]bool{}}
	if err := out.add(formatFile, []byte(formatText)); err != nil {
		out.abort()
		return nil, err
	}
	return &Archive{newCache(path, out), out}, nil
}

// Commit completes and syncs the file and gives it its name.
func (a *Archive) Commit() error { return a.out.commit() }

// Abort removes what was written. After Commit it does nothing.
func (a *Archive) Abort() { a.out.abort() }

// A writtenArchive appends to a tar.
type writtenArchive struct {
	path string

	mu  sync.Mutex
	f   *durable.File // nil after Commit or Abort
	tar *tar.Writer
	has map[string]bool
}

func (w *writtenArchive) keys(context.Context) ([]string, error) { return nil, errReadOnly }

// index finds no index: each key is put once.
func (w *writtenArchive) index(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }

func (w *writtenArchive) piece(context.Context, piece) ([]byte, error) { return nil, errReadOnly }

func (w *writtenArchive) putPiece(_ context.Context, p piece, stored []byte) (sent bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := pieceName(p.Digest)
	if w.has[name] {
		return false, nil
	}
	w.has[name] = true
	return true, w.add(name, stored)
}

func (w *writtenArchive) putIndex(_ context.Context, key string, encoded []byte, _ []piece) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.add(indexName(key), encoded)
}

// add appends a file. The caller holds the lock, or no other goroutine has the archive yet.
func (w *writtenArchive) add(name string, content []byte) error {
	if w.f == nil {
		return errors.New("the file is complete")
	}
	err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.tar.Write(content)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

func (w *writtenArchive) commit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.f
	w.f = nil
	defer f.Close()
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return f.Commit()
}

func (w *writtenArchive) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
}

// Open opens a file that Create has written. It must be closed.
func Open(path string) (cache *PieceCache, closer io.Closer, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: `sov cache export FILE` writes one", err)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := readArchive(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return newCache(path, r), f, nil
}

// maxFiles limits the number of files in an archive, which bounds the memory for its table of
// contents.
const maxFiles = 4 << 20

// A readableArchive maps the files of a tar to their offsets.
type readableArchive struct {
	r     io.ReaderAt
	files map[string]section
	order []string // keys
}

type section struct{ offset, size int64 }

// archiveFile is what an archive is read from.
type archiveFile interface {
	io.ReadSeeker
	io.ReaderAt
}

// readArchive finds the files in a tar.
func readArchive(f archiveFile) (*readableArchive, error) {
	a := &readableArchive{r: f, files: map[string]section{}}
	t := tar.NewReader(f)
	for first := true; ; first = false {
		h, err := t.Next()
		if errors.Is(err, io.EOF) && !first {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w (not written by `sov cache export`, or cut off)", err)
		}
		if first && (h.Name != formatFile || !isFormat(t)) {
			return nil, errors.New("it was not written by a `sov cache export` that this version knows")
		}
		// The tar reader does not read past the header, so the current offset is where the content
		// begins.
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || len(a.files) >= maxFiles {
			return nil, fmt.Errorf("%q is not part of an export", h.Name)
		}
		if key := keyOf(h.Name); key != "" {
			a.order = append(a.order, key)
		} else if !first && !strings.HasPrefix(h.Name, "pieces/") {
			return nil, fmt.Errorf("%q is not part of an export", h.Name)
		}
		a.files[h.Name] = section{offset, h.Size}
	}
}

func isFormat(r io.Reader) bool {
	b, err := readAtMost(r, int64(len(formatText)))
	return err == nil && string(b) == formatText
}

func (a *readableArchive) keys(context.Context) ([]string, error) { return a.order, nil }

func (a *readableArchive) index(_ context.Context, key string) ([]byte, error) {
	return a.read(indexName(key), maxIndex)
}

func (a *readableArchive) piece(_ context.Context, p piece) ([]byte, error) {
	return a.read(pieceName(p.Digest), p.Size)
}

func (a *readableArchive) read(name string, limit int64) ([]byte, error) {
	s, ok := a.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if s.size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrRefused, name, s.size)
	}
	b := make([]byte, s.size)
	if _, err := a.r.ReadAt(b, s.offset); err != nil && !(errors.Is(err, io.EOF) && s.size == 0) {
		return nil, fmt.Errorf("%w: %s: %w", ErrRefused, name, err)
	}
	return b, nil
}

func (a *readableArchive) putPiece(context.Context, piece, []byte) (bool, error) {
	return false, errReadOnly
}

func (a *readableArchive) putIndex(context.Context, string, []byte, []piece) error {
	return errReadOnly
}
