package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/fetch"
)

// A Layer is one layer of an image.
type Layer struct {
	Digest string // of the stored form, compressed or not
	DiffID string // of the uncompressed tar
	Size   int64  // bytes of the stored form; -1 if unknown before reading
	open   func() (io.ReadCloser, error)
	pause  time.Duration // as in Options
}

// maxLayer is the largest stored form of a layer, in bytes; the tar in it may have four times that.
const maxLayer = 16 << 30

// newLayer returns the layer that a manifest describes.
func newLayer(d v1.Descriptor, open func() (io.ReadCloser, error)) (Layer, error) {
	if d.Digest.Algorithm != "sha256" {
		return Layer{}, fmt.Errorf("digest %s is not a SHA-256", d.Digest)
	}
	if d.Size > maxLayer {
		return Layer{}, fmt.Errorf("layer %s has %d bytes, at most %d are expected: %w", d.Digest, d.Size, int64(maxLayer), bound.ErrTooLarge)
	}
	return Layer{Digest: d.Digest.String(), Size: d.Size, open: open}, nil
}

// plainLayer returns a layer that has only a diff ID.
func plainLayer(diffID string, open func() (io.ReadCloser, error)) Layer {
	return Layer{Digest: diffID, DiffID: diffID, Size: -1, open: open}
}

// Fetch writes the stored form of the layer to f, from offset 0, and verifies size and digest. It
// retries a broken transfer. progress, which may be nil, is called with the number of bytes as they
// arrive, and with a negative number if bytes must be fetched again.
func (l Layer) Fetch(ctx context.Context, f *os.File, progress func(n int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	err := fetch.Retry(ctx, 0, l.pause, func() error {
		err := l.fetch(ctx, f, progress)
		return ExplainAnswer(err)
	})
	if err != nil {
		return fmt.Errorf("fetch layer %s: %w", l.Digest, err)
	}
	return nil
}

func (l Layer) fetch(ctx context.Context, f *os.File, progress func(int64)) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	body, err := l.open()
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	counted := &progressWriter{io.MultiWriter(f, sum), progress, 0}
	var src io.Reader = &contextReader{ctx, body}
	if l.Size >= 0 {
		src = io.LimitReader(src, l.Size+1)
	}
	n, err := io.Copy(counted, src)
	if err == nil && l.Size >= 0 && n != l.Size {
		err = fmt.Errorf("%w: %d bytes arrived, its manifest says %d", io.ErrUnexpectedEOF, n, l.Size)
	}
	if err == nil {
		err = compare("digest", sum, l.Digest)
	}
	if err != nil {
		progress(-counted.n)
	}
	return err
}

// Decompress writes the tar in r, the output of Fetch, to w and verifies the diff ID. Like
// container runtimes, it detects the compression by the first bytes, since media types of existing
// images are sometimes wrong.
func (l Layer) Decompress(w io.Writer, r io.Reader) error {
	if err := l.decompress(w, r); err != nil {
		return fmt.Errorf("decompress layer %s: %w", l.Digest, err)
	}
	return nil
}

func (l Layer) decompress(w io.Writer, r io.Reader) error {
	tar, err := decompress(r)
	if err != nil {
		return err
	}
	defer tar.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), tar); err != nil {
		return err
	}
	return compare("diff ID", sum, l.DiffID)
}

func compare(what string, sum hash.Hash, want string) error {
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("its %s is %s instead of %s", what, got, want)
	}
	return nil
}

type progressWriter struct {
	io.Writer
	progress func(int64)
	n        int64
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += int64(n)
	w.progress(int64(n))
	return n, err
}

type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
