package receive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/address"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// A writer writes one file sequentially. Zeros become holes. It is not a durable.File, because an
// interrupted transfer keeps what it has written. The folder is renamed when all its files are
// complete and synced.
type writer struct {
	file *os.File
	buf  *bufio.Writer
	at   int64
}

// writeBuffer is the size of the write buffer in bytes.
const writeBuffer = 1 << 20

// newWriter opens a file for writing and keeps the first keep bytes of an existing one.
func newWriter(path string, keep int64) (*writer, error) {
	flags := os.O_WRONLY | os.O_CREATE
	if keep == 0 {
		// Create a new file: the old one may be open as a source.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(keep)
	if err == nil {
		_, err = f.Seek(keep, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &writer{file: f, buf: bufio.NewWriterSize(f, writeBuffer), at: keep}, nil
}

func (w *writer) Write(b []byte) (int, error) {
	n, err := w.buf.Write(b)
	w.at += int64(n)
	return n, err
}

// hole skips n zeros.
func (w *writer) hole(n int64) error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	w.at += n
	_, err := w.file.Seek(w.at, io.SeekStart)
	return err
}

// finish sets the file's length to what was written, and syncs it.
func (w *writer) finish() error {
	err := w.buf.Flush()
	if err == nil {
		err = w.file.Truncate(w.at)
	}
	if err == nil {
		err = w.file.Chmod(0o644)
	}
	if err == nil {
		err = w.file.Sync()
	}
	return errors.Join(err, w.file.Close())
}

// abandon keeps what was written for the next transfer.
func (w *writer) abandon() {
	w.buf.Flush()
	w.file.Close()
}

// An assembly is a version that is being assembled in the machine's incoming folder.
type assembly struct {
	vm phonepath.VM
	version
	target   string          // slot
	files    []manifest.File // files to write; vm.json is known already
	report   func(pushapi.Progress)
	progress pushapi.Progress
}

// begin prepares the folder for an admitted version. data is the number of non-zero bytes of each
// file.
func begin(r *Receiver, v version, data []int64, report func(pushapi.Progress)) (*assembly, error) {
	s := &assembly{vm: r.VM, version: v, files: installed.Streamed(v.Artifact), report: report}
	if len(data) != len(s.files) {
		return nil, fmt.Errorf("%d sizes for %d files", len(data), len(s.files))
	}
	if err := durable.MkdirAll(r.VM.Incoming(), 0o755); err != nil {
		return nil, err
	}
	// Before anything is sent: a version that conflicts with another machine could not be started.
	if err := address.Claim(r.VM, v.Spec.Network); err != nil {
		return nil, err
	}
	var err error
	if s.target, err = slots.Target(r.VM, r.running()); err != nil {
		return nil, err
	}
	var need int64
	for i, f := range s.files {
		if data[i] < 0 || data[i] > f.Size {
			return nil, fmt.Errorf("%s has %d bytes, of which %d are not zeros", f.Name, f.Size, data[i])
		}
		need += max(data[i]-allocated(s.path(f.Name)), 0)
	}
	return s, makeRoom(r.VM, s.target, need)
}

func (s *assembly) path(name string) string { return filepath.Join(s.vm.Incoming(), name) }

// note counts written bytes of files.
func (s *assembly) note(written int64) {
	s.progress.Written += written
	s.report(s.progress)
}

// finish verifies the files and makes the folder the slot.
func (s *assembly) finish(ctx context.Context) error {
	names := map[string]bool{}
	for i, name := range []string{artifact.ManifestFile, artifact.SpecFile} {
		names[name] = true
		if err := durable.WriteFile(s.path(name), s.Texts[i], 0o644); err != nil {
			return explainWrite(err)
		}
	}
	for _, f := range s.files {
		names[f.Name], names[filepath.Base(notePath(f.Name))] = true, true
		if err := s.verify(ctx, f); err != nil {
			return err
		}
	}
	if err := clear(s.vm.Incoming(), func(name string) bool { return names[name] }); err != nil {
		return err
	}
	if err := s.keepSignature(s.vm, s.vm.Incoming()); err != nil {
		return explainWrite(err)
	}
	return slots.Commit(s.vm, s.target)
}

// verify reads a file back, compares it with the manifest and stores its list of chunks for the
// next push.
func (s *assembly) verify(ctx context.Context, want manifest.File) error {
	f, err := os.Open(s.path(want.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	var l chunk.List
	whole := sha256.New()
	err = chunk.Each(f, func(c chunk.Chunk, content []byte) error {
		whole.Write(content)
		l = append(l, chunk.Piece{Name: c.Sum.Name(), Size: c.Size, Zero: c.Zero})
		s.progress.Verified += int64(c.Size)
		s.report(s.progress)
		return context.Cause(ctx)
	})
	if err != nil {
		return fmt.Errorf("verify %s: %w", want.Name, err)
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != want.SHA256 || l.Size() != want.Size {
		f.Close()
		return errors.Join(&pushapi.Refusal{Code: pushapi.CodeDigest, Text: fmt.Sprintf("%s was put together and is not what manifest.json says: SHA-256 %s, %d bytes", want.Name, got, l.Size())},
			os.Remove(f.Name()))
	}
	if err := keepNote(f, l); err != nil {
		return explainWrite(err)
	}
	return nil
}

// isWhole reports whether a slot has a version, byte for byte.
func isWhole(ctx context.Context, dir string, a *installed.Artifact, report func(int64)) bool {
	for _, want := range a.Files {
		f, err := os.Open(filepath.Join(dir, want.Name))
		if err != nil {
			return false
		}
		whole := sha256.New()
		n, err := io.Copy(whole, &reporting{ctx, f, report})
		f.Close()
		if err != nil || n != want.Size || hex.EncodeToString(whole.Sum(nil)) != want.SHA256 {
			return false
		}
	}
	return true
}

// reporting is a reader that reports how much was read.
type reporting struct {
	ctx    context.Context
	r      io.Reader
	report func(int64)
}

func (r *reporting) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	r.report(int64(n))
	return n, err
}
