// Package bound limits the cost of untrusted input: the number of bytes read, and the size after
// decompression.
package bound

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTooLarge is wrapped by the error of every exceeded limit.
var ErrTooLarge = errors.New("larger than accepted")

// A Limit is the maximum output of a decompressor.
type Limit struct {
	Bytes int64 // absolute maximum
	Free  int64 // bytes that are allowed for any input size
	Ratio int64 // beyond Free, output bytes per compressed byte; deflate reaches 1032, real files stay below 30
}

// A Source counts the bytes that are read from a compressed file, for Expanded. The zero Source is
// not usable.
type Source struct {
	r    io.Reader
	read int64
}

// NewSource returns a Source that reads r.
func NewSource(r io.Reader) *Source { return &Source{r: r} }

// Read implements io.Reader.
func (s *Source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.read += int64(n)
	return n, err
}

// Count returns how many bytes were read.
func (s *Source) Count() int64 { return s.read }

// Expanded returns a reader of r, the decompressor of the data read from s. Reads return an error
// that wraps ErrTooLarge when the output exceeds the limit for the bytes read from s.
func (l Limit) Expanded(r io.Reader, s *Source) io.Reader {
	return &expanded{r: r, source: s, limit: l}
}

type expanded struct {
	r      io.Reader
	source *Source
	limit  Limit
	n      int64
}

// Read implements io.Reader. The decompressor may have read more than it has output, so the
// effective ratio is at least Ratio and a little higher.
func (e *expanded) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.n += int64(n)
	if e.n > e.limit.Bytes {
		return n, fmt.Errorf("%w: it expands to more than %d bytes", ErrTooLarge, e.limit.Bytes)
	}
	if e.n-e.limit.Free > e.limit.Ratio*e.source.Count() {
		return n, fmt.Errorf("%w: %d compressed bytes expand to more than %d, which is out of proportion", ErrTooLarge, e.source.Count(), e.n-int64(n))
	}
	return n, err
}

// ReadAll reads r to its end. If r has more than limit bytes, the error wraps ErrTooLarge.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes are expected", ErrTooLarge, limit)
	}
	return b, err
}

// ReadFile is os.ReadFile with a maximum of limit bytes. The file may be a pipe, such as a shell's
// <(command).
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := ReadAll(f, limit)
	if errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, err
}
