package oci

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/bound"
)

// layerLimit limits the tar in a compressed layer. Debian's layers expand to three times their
// size; the ratio allows for layers of mostly zeros.
var layerLimit = bound.Limit{Bytes: 4 * maxLayer, Free: 16 << 20, Ratio: 100}

// maxWindow is the largest window of the zstd and xz decoders. It is the default limit of zstd's
// command line tool; xz's highest preset needs half of it.
const maxWindow = 128 << 20

// First bytes of compressed files.
var (
	gzipMagic = []byte("\x1f\x8b")         // RFC 1952, section 2.3.1
	zstdMagic = []byte("\x28\xb5\x2f\xfd") // RFC 8878, section 3.1.1
	xzMagic   = []byte("\xfd7zXZ\x00")     // xz-file-format.txt, section 2.1.1.1
)

// decompress returns the content of r, which may be compressed with gzip, zstd or xz.
func decompress(r io.Reader) (io.ReadCloser, error) {
	source := bound.NewSource(r)
	buffered := bufio.NewReaderSize(source, 64<<10)
	magic, err := buffered.Peek(len(xzMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		return closing{layerLimit.Expanded(z, source), z.Close}, nil
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return closing{layerLimit.Expanded(z, source), func() error { z.Close(); return nil }}, nil
	case bytes.HasPrefix(magic, xzMagic):
		return io.NopCloser(layerLimit.Expanded(&xzReader{in: &countingReader{r: buffered}}, source)), nil
	}
	return io.NopCloser(buffered), nil
}

// openFile opens a file that may be compressed.
func openFile(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	plain, err := decompress(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return closing{plain, func() error { return errors.Join(plain.Close(), f.Close()) }}, nil
}

// A closing is a reader with a function to call on Close.
type closing struct {
	io.Reader
	close func() error
}

func (c closing) Close() error { return c.close() }
