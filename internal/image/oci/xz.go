package oci

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"

	"github.com/sovereign-sql/sov/internal/bound"
)

// An xzReader decompresses the blocks of an xz file (xz-file-format.txt). The container is read
// here and not by ulikunitz/xz, which allocates any window that a block's header requests, up to 4
// GiB. Checks of blocks are verified; the index, which repeats their sizes, is skipped.
type xzReader struct {
	in    *countingReader
	check func() hash.Hash // of the stream; nil: between streams
	block io.Reader        // nil: between blocks
	sum   hash.Hash        // of block, or nil
	spent int64            // bytes of windows so far
	err   error
}

// xzWindows is the maximum total size of the windows of all blocks, for each byte read; one window
// more is always allowed. A block has at least 20 bytes and allocates its window.
const xzWindows = 1024

// A countingReader counts the bytes that are read. It has ReadByte, so that a block's decoder does
// not read beyond the block.
type countingReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Sizes of the format's parts, in bytes.
const (
	xzHeader    = 12
	xzFooter    = 12
	xzAlignment = 4
)

var errXZ = errors.New("xz: malformed data")

// Read implements io.Reader.
func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			x.err = x.next()
			continue
		}
		n, err := x.block.Read(p)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		if errors.Is(err, io.EOF) {
			err = x.endBlock()
		}
		x.err = err
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// next begins the next block, possibly in the next stream.
func (x *xzReader) next() error {
	if x.check == nil {
		if err := x.beginStream(); err != nil {
			return err
		}
	}
	size, err := x.in.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if size == 0 {
		return x.endStream()
	}
	header := make([]byte, (int(size)+1)*4)
	header[0] = size
	if _, err := io.ReadFull(x.in, header[1:]); err != nil {
		return unexpected(err)
	}
	window, err := xzWindow(header)
	if err != nil {
		return err
	}
	if x.spent += int64(window); x.spent > maxWindow+xzWindows*x.in.n {
		return fmt.Errorf("xz: %w: it has many small blocks: compress it with xz's defaults", bound.ErrTooLarge)
	}
	x.sum = x.check()
	x.block, err = lzma.Reader2Config{DictCap: max(lzma.MinDictCap, window)}.NewReader2(x.in)
	return err
}

// xzWindow returns the window size in a block's header, which must have LZMA2 as its only filter.
func xzWindow(header []byte) (int, error) {
	end := len(header) - 4
	if crc32.ChecksumIEEE(header[:end]) != binary.LittleEndian.Uint32(header[end:]) {
		return 0, errXZ
	}
	rest := bytes.NewReader(header[2:end])
	size := uint64(maxWindow)
	for flag := byte(0x40); flag != 0; flag <<= 1 { // the compressed and the uncompressed size
		if header[1]&flag == 0 {
			continue
		}
		n, err := binary.ReadUvarint(rest)
		if err != nil {
			return 0, errXZ
		}
		if flag == 0x80 {
			size = min(size, n)
		}
	}
	filter := make([]byte, 3) // LZMA2, one byte of properties
	if _, err := io.ReadFull(rest, filter); err != nil || filter[0] != 0x21 || filter[1] != 1 || header[1]&0x3f != 0 {
		return 0, errors.New("xz: compressed with a filter besides LZMA2: compress it with xz's defaults")
	}
	p := filter[2]
	if p > 40 {
		return 0, errXZ
	}
	if window := uint64(2|p&1) << (p/2 + 11); window <= maxWindow {
		return int(min(window, size)), nil // no match reaches back further than the block
	}
	return 0, fmt.Errorf("xz: %w: its window is larger than %d bytes", bound.ErrTooLarge, int64(maxWindow))
}

// beginStream reads a stream's header, and the padding before it.
func (x *xzReader) beginStream() error {
	header := make([]byte, xzHeader)
	for {
		if _, err := io.ReadFull(x.in, header[:xzAlignment]); err != nil {
			return err // io.EOF: the end
		}
		if !bytes.Equal(header[:xzAlignment], make([]byte, xzAlignment)) {
			break
		}
	}
	if _, err := io.ReadFull(x.in, header[xzAlignment:]); err != nil {
		return unexpected(err)
	}
	if !bytes.HasPrefix(header, xzMagic) || header[6] != 0 {
		return errXZ
	}
	switch header[7] {
	case 0:
		x.check = func() hash.Hash { return nil }
	case 1:
		x.check = func() hash.Hash { return crc32.NewIEEE() }
	case 4:
		x.check = func() hash.Hash { return crc64.New(crc64.MakeTable(crc64.ECMA)) }
	case 10:
		x.check = sha256.New
	default:
		return fmt.Errorf("xz: unknown check %d", header[7])
	}
	return nil
}

// endBlock reads the padding and the check after a block.
func (x *xzReader) endBlock() error {
	x.block = nil
	if err := x.pad(); err != nil {
		return err
	}
	if x.sum == nil {
		return nil
	}
	want := make([]byte, x.sum.Size())
	if _, err := io.ReadFull(x.in, want); err != nil {
		return unexpected(err)
	}
	got := x.sum.Sum(nil)
	if len(got) < sha256.Size { // CRCs are little endian
		for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
			got[i], got[j] = got[j], got[i]
		}
	}
	if !bytes.Equal(got, want) {
		return errors.New("xz: the content does not match its check")
	}
	return nil
}

// endStream skips the rest of the index, whose first byte was read, and the footer.
func (x *xzReader) endStream() error {
	x.check = nil
	records, err := binary.ReadUvarint(x.in)
	for ; err == nil && records > 0; records-- {
		if _, err = binary.ReadUvarint(x.in); err == nil {
			_, err = binary.ReadUvarint(x.in)
		}
	}
	if err == nil {
		err = x.pad()
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, x.in, 4+xzFooter) // the index's CRC32
	}
	return unexpected(err)
}

// pad skips zeros up to the next multiple of four bytes, the alignment of all parts.
func (x *xzReader) pad() error {
	for x.in.n%xzAlignment != 0 {
		b, err := x.in.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		if b != 0 {
			return errXZ
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
