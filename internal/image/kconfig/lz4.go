package kconfig

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The formats are those of lz4_Frame_format.md and lz4_Block_format.md in the LZ4 project. The
// kernel's build writes legacy frames, the lz4 program newer ones. Checksums are not verified: a
// damaged kernel does not boot, and the configuration has its own checksum.
const (
	lz4LegacyMagic = "\x02\x21\x4c\x18"
	lz4FrameMagic  = "\x04\x22\x4d\x18"
)

var errLZ4 = errors.New("malformed data")

func decodeLZ4(b []byte, limit int) ([]byte, error) {
	if len(b) < 4 {
		return nil, errLZ4
	}
	if string(b[:4]) == lz4LegacyMagic {
		return decodeLZ4Legacy(b[4:], limit)
	}
	return decodeLZ4Frame(b[4:], limit)
}

// decodeLZ4Legacy reads blocks, each with its compressed length in front, to
// the end of the data. Older kernel builds append the uncompressed size.
func decodeLZ4Legacy(b []byte, limit int) (out []byte, err error) {
	for len(b) > 4 {
		n := int64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		if n > int64(len(b)) {
			return nil, errLZ4
		}
		if out, err = appendLZ4Block(out, b[:n], limit); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	return out, nil
}

// Bits of a frame's FLG byte.
const (
	lz4BlockChecksum = 1 << 4
	lz4ContentSize   = 1 << 3
	lz4DictID        = 1 << 0
)

func decodeLZ4Frame(b []byte, limit int) (out []byte, err error) {
	if len(b) < 3 {
		return nil, errLZ4
	}
	flags := b[0]
	header := 3 // FLG, BD, header checksum
	if flags&lz4ContentSize != 0 {
		header += 8
	}
	if flags&lz4DictID != 0 {
		header += 4
	}
	blockTrailer := 0
	if flags&lz4BlockChecksum != 0 {
		blockTrailer = 4
	}
	if len(b) < header {
		return nil, errLZ4
	}
	for b = b[header:]; ; {
		if len(b) < 4 {
			return nil, errLZ4
		}
		word := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if word == 0 { // EndMark
			return out, nil
		}
		const storedBit = 1 << 31
		n := int(word &^ storedBit)
		if n > len(b)-blockTrailer {
			return nil, errLZ4
		}
		if word&storedBit == 0 {
			out, err = appendLZ4Block(out, b[:n], limit)
		} else if out = append(out, b[:n]...); len(out) > limit {
			err = tooLarge(limit)
		}
		if err != nil {
			return nil, err
		}
		b = b[n+blockTrailer:]
	}
}

// appendLZ4Block decompresses one block and appends it to out. Matches may refer to the content of
// out.
func appendLZ4Block(out, src []byte, limit int) ([]byte, error) {
	const minMatch = 4
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		literals, rest, ok := lz4Length(int(token>>4), src)
		if !ok || literals > len(rest) {
			return nil, errLZ4
		}
		if len(out)+literals > limit {
			return nil, tooLarge(limit)
		}
		out = append(out, rest[:literals]...)
		src = rest[literals:]
		if len(src) == 0 { // a block ends with literals
			return out, nil
		}
		if len(src) < 2 {
			return nil, errLZ4
		}
		offset := int(binary.LittleEndian.Uint16(src))
		match, rest, ok := lz4Length(int(token&15), src[2:])
		if !ok || offset == 0 || offset > len(out) {
			return nil, errLZ4
		}
		match += minMatch
		if len(out)+match > limit {
			return nil, tooLarge(limit)
		}
		// A match may overlap its own output, so it is copied in pieces of the existing output.
		for match > 0 {
			from := out[len(out)-offset:]
			n := min(match, len(from))
			out = append(out, from[:n]...)
			match -= n
		}
		src = rest
	}
	return out, nil
}

// lz4Length completes a length whose four bits in the token were n.
func lz4Length(n int, src []byte) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, src, true
	}
	for i, c := range src {
		n += int(c)
		if c != 255 {
			return n, src[i+1:], true
		}
	}
	return 0, nil, false
}

func tooLarge(limit int) error { return fmt.Errorf("larger than %d bytes", limit) }
