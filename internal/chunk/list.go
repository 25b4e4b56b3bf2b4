package chunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A Name is the part of a chunk's SHA-256 that lists contain. A collision would be detected by the
// SHA-256 of the whole file, so a name only has to be long enough to make one improbable.
type Name [16]byte

// Name returns the chunk's.
func (s Sum) Name() Name { return Name(s[:len(Name{})]) }

// A Piece is an entry of a List.
type Piece struct {
	Name Name
	Size int // bytes
	Zero bool
}

// A List is the chunks of a file in their order.
type List []Piece

// Size returns the file's, in bytes.
func (l List) Size() int64 {
	var n int64
	for _, p := range l {
		n += int64(p.Size)
	}
	return n
}

// ListOf returns the list of r's chunks.
func ListOf(r io.Reader) (List, error) {
	var l List
	err := Each(r, func(c Chunk, _ []byte) error {
		l = append(l, Piece{Name: c.Sum.Name(), Size: c.Size, Zero: c.Zero})
		return nil
	})
	return l, err
}

// zeroFlag marks a chunk of zeros in the two bytes of its size.
const zeroFlag = 1 << 15

// pieceSize is the encoded size of a chunk: that of its content and, unless it is zeros, its name.
const pieceSize = 2 + len(Name{})

// Append encodes the list. Each chunk has two bytes, big-endian, with its size and the highest bit
// set for zeros, followed by its name if it is not zeros.
func (l List) Append(b []byte) []byte {
	for _, p := range l {
		if p.Zero {
			b = binary.BigEndian.AppendUint16(b, uint16(p.Size|zeroFlag))
			continue
		}
		b = binary.BigEndian.AppendUint16(b, uint16(p.Size))
		b = append(b, p.Name[:]...)
	}
	return b
}

// ReadList decodes a list encoded by Append whose chunks have size bytes in total. Its memory is
// proportional to the input, not to size.
func ReadList(r io.Reader, size int64) (List, error) {
	if size < 0 || size > math.MaxInt64/2 {
		return nil, fmt.Errorf("list of chunks: %d bytes cannot be a file's size", size)
	}
	var l List
	var entry [pieceSize]byte
	for left := size; left > 0; {
		if _, err := io.ReadFull(r, entry[:2]); err != nil {
			return nil, short(err)
		}
		n := binary.BigEndian.Uint16(entry[:2])
		p := Piece{Size: int(n &^ zeroFlag), Zero: n&zeroFlag != 0}
		if p.Size == 0 || p.Size > Max || int64(p.Size) > left || p.Size < Min && int64(p.Size) != left {
			return nil, fmt.Errorf("list of chunks: a chunk of %d bytes where %d are left", p.Size, left)
		}
		if !p.Zero {
			if _, err := io.ReadFull(r, entry[2:]); err != nil {
				return nil, short(err)
			}
			p.Name = Name(entry[2:])
		}
		left -= int64(p.Size)
		l = append(l, p)
	}
	return l, nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("list of chunks: %w", err)
}

// Equal reports whether two chunks have the same content.
func (p Piece) Equal(o Piece) bool {
	return p.Size == o.Size && p.Zero == o.Zero && (p.Zero || bytes.Equal(p.Name[:], o.Name[:]))
}
