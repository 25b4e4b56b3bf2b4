package kconfig

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/ulikunitz/xz/lzma"
)

// The container is read here and not by ulikunitz/xz, because the kernel's build passes x86 code
// through the BCJ filter, which that package lacks. The format is xz-file-format.txt. Checks and
// the index are not verified: a damaged kernel does not boot, and the configuration has its own
// checksum.
const xzMagic = "\xfd7zXZ\x00"

// Filter IDs.
const (
	xzFilterX86   = 0x04
	xzFilterLZMA2 = 0x21
)

var errXZ = errors.New("malformed data")

func decodeXZ(b []byte, limit int) ([]byte, error) {
	const streamHeader = 12
	if len(b) < streamHeader {
		return nil, errXZ
	}
	checkLength, err := xzCheckLength(b[7] & 15)
	if err != nil {
		return nil, err
	}
	var out []byte
	for b = b[streamHeader:]; ; {
		if len(b) == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		if b[0] == 0 { // the index
			return out, nil
		}
		headerLength := (int(b[0]) + 1) * 4
		if headerLength > len(b) {
			return nil, errXZ
		}
		block, err := parseXZBlockHeader(b[:headerLength])
		if err != nil {
			return nil, err
		}
		data := bytes.NewReader(b[headerLength:])
		plain, err := block.decode(data, limit-len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, plain...)
		used := (headerLength + int(data.Size()) - data.Len() + 3) &^ 3
		if used+checkLength > len(b) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[used+checkLength:]
	}
}

// xzCheckLength returns the length of a block's check in bytes.
func xzCheckLength(kind byte) (int, error) {
	switch kind {
	case 0:
		return 0, nil
	case 1: // CRC32
		return 4, nil
	case 4: // CRC64
		return 8, nil
	case 10: // SHA-256
		return 32, nil
	}
	return 0, fmt.Errorf("unknown check %d", kind)
}

type xzBlock struct {
	x86      bool // the data went through the x86 filter
	dictSize int64
}

func parseXZBlockHeader(h []byte) (xzBlock, error) {
	var block xzBlock
	flags := h[1]
	rest := h[2 : len(h)-4] // without the CRC32
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			rest = nil
			return 0
		}
		rest = rest[n:]
		return v
	}
	if flags&0x40 != 0 { // compressed size
		number()
	}
	if flags&0x80 != 0 { // uncompressed size
		number()
	}
	for last := int(flags & 3); last >= 0; last-- {
		id, length := number(), number()
		if length > uint64(len(rest)) {
			return block, errXZ
		}
		properties := rest[:length]
		rest = rest[length:]
		switch {
		case id == xzFilterX86 && length == 0 && last > 0:
			block.x86 = true
		case id == xzFilterLZMA2 && length == 1 && last == 0 && properties[0] <= 40:
			block.dictSize = xzDictSize(properties[0])
		default:
			return block, fmt.Errorf("unknown filter %#x", id)
		}
	}
	return block, nil
}

// xzDictSize decodes the dictionary size of LZMA2: 2 or 3 times a power of two.
func xzDictSize(p byte) int64 {
	if p == 40 {
		return 1<<32 - 1
	}
	return int64(2|p&1) << (p/2 + 11)
}

func (block xzBlock) decode(r io.Reader, limit int) ([]byte, error) {
	// No match reaches back further than the output limit.
	dict := max(lzma.MinDictCap, min(block.dictSize, int64(limit)))
	lz, err := lzma.Reader2Config{DictCap: int(dict)}.NewReader2(r)
	if err != nil {
		return nil, err
	}
	out, err := readLimited(lz, limit)
	if err == nil && block.x86 {
		undoX86(out)
	}
	return out, err
}

// undoX86 reverses the x86 filter of xz: it converts absolute targets of CALL and JMP instructions
// in b back to relative ones.
//
// The filter guesses instructions: a byte E8 or E9 counts as one if the highest byte of its operand
// is 00 or FF and no similar byte shortly before it makes that doubtful. seen has a bit for each of
// the three previous bytes, set if the byte looked like an instruction and was not converted.
func undoX86(b []byte) {
	const instruction = 5
	seen := uint(0)
	for i := 0; i+instruction <= len(b); i++ {
		if b[i]&^1 != 0xe8 {
			seen = seen << 1 & 7
			continue
		}
		operand := b[i+1 : i+instruction]
		if !isSignByte(operand[3]) || doubtful(seen, operand) {
			seen = (seen<<1 | 1) & 7
			continue
		}
		address := binary.LittleEndian.Uint32(operand)
		for {
			address -= uint32(i + instruction)
			// The operand of a previous possible instruction overlaps the operand of this one. The
			// overlapping byte must not become a sign byte, because the encoder would not have
			// converted it then.
			shift := 8 * bits.Len(seen)
			if shift == 0 || !isSignByte(byte(address>>(24-shift))) {
				break
			}
			address ^= 1<<(32-shift) - 1
		}
		address &= 0x1ffffff
		if address&0x1000000 != 0 { // the sign, extended
			address |= 0xff000000
		}
		binary.LittleEndian.PutUint32(operand, address)
		i += len(operand)
		seen = 0
	}
}

// doubtful reports whether the previous bytes rule out an instruction here.
func doubtful(seen uint, operand []byte) bool {
	if seen == 0 {
		return false
	}
	return bits.OnesCount(seen) > 1 || isSignByte(operand[3-bits.Len(seen)])
}

func isSignByte(b byte) bool { return b == 0 || b == 0xff }
