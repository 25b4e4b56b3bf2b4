package apk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/sovereign-sql/sov/internal/bound"
)

// A member is a gzip member of an index or package: its position in the file and its content.
type member struct {
	offset, end int64
	content     []byte
}

// readMember decompresses the gzip member at offset. Content beyond the limit is an error.
func readMember(r io.ReaderAt, offset, size int64, limit bound.Limit) (*member, error) {
	source := bound.NewSource(io.NewSectionReader(r, offset, size-offset))
	buffered := bufio.NewReader(source)
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("gzip member at byte %d: %w", offset, noEOF(err))
	}
	z.Multistream(false)
	content, err := io.ReadAll(limit.Expanded(z, source))
	if err != nil {
		return nil, fmt.Errorf("gzip member at byte %d: %w", offset, noEOF(err))
	}
	return &member{offset: offset, end: offset + source.Count() - int64(buffered.Buffered()), content: content}, nil
}

// noEOF converts io.EOF in the middle of a stream to io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gzip's format, RFC 1952 section 2.3: the offsets of header fields, and two values of the last.
const (
	gzipFlags       = 3
	gzipTime        = 4
	gzipEffort      = 8 // "XFL", the compression effort
	gzipOS          = 9
	gzipHeaderSize  = 10
	gzipTrailerSize = 8
	gzipOSUnix      = 3
	gzipOSUnknown   = 255
)

var errNotPlain = errors.New("its compressed form carries more than its content: the file was damaged or tampered with")

// checkPlain refuses a signature member with meaningless bits set, such as deflate's padding to a
// whole byte. Signing tools leave them zero, except the header's time, which Alpine's tools set
// until 2016. No signature covers the compressed form of this member, so this check limits how it
// can be changed: after it, a member that is stored uncompressed cannot be changed, and a
// compressed one only in bits that select other encodings of the same content.
func checkPlain(r io.ReaderAt, m *member) error {
	raw := make([]byte, m.end-m.offset)
	if _, err := r.ReadAt(raw, m.offset); err != nil {
		return err
	}
	if raw[gzipFlags] != 0 || raw[gzipOS] != gzipOSUnix && raw[gzipOS] != gzipOSUnknown {
		return errNotPlain
	}
	stored, plain := storedBlocks(raw[gzipHeaderSize : len(raw)-gzipTrailerSize])
	if stored {
		if !plain || raw[gzipEffort] != 0 {
			return errNotPlain
		}
		return nil
	}
	return checkPadding(raw, m.content)
}

// storedBlocks reports whether deflated data consists of stored blocks only (RFC 1951, section
// 3.2.4), and whether the bits between their headers and lengths are zero.
func storedBlocks(data []byte) (stored, plain bool) {
	const (
		final      = 1
		blockType  = 3 << 1 // 0 is stored
		headerSize = 5      // header bits and padding, length, its complement
	)
	plain = true
	for len(data) >= headerSize {
		if data[0]&blockType != 0 {
			return false, false
		}
		plain = plain && data[0]&^(final|blockType) == 0
		length := headerSize + (int(data[1]) | int(data[2])<<8)
		if data[0]&final != 0 {
			return length == len(data), plain
		}
		data = data[min(length, len(data)):]
	}
	return false, false
}

// checkPadding refuses set bits after the end of the deflated data, where they have no meaning.
func checkPadding(raw, content []byte) error {
	last := len(raw) - gzipTrailerSize - 1
	for bit := byte(0x80); bit != 0; bit >>= 1 {
		if raw[last]&bit == 0 {
			continue
		}
		raw[last] ^= bit
		again, err := readMember(bytes.NewReader(raw), 0, int64(len(raw)), bound.Limit{Bytes: int64(len(content)), Free: int64(len(content))})
		raw[last] ^= bit
		if err == nil && again.end == int64(len(raw)) && bytes.Equal(again.content, content) {
			return errNotPlain
		}
	}
	return nil
}
