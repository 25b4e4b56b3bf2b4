package pushapi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// An Instruction produces the next bytes of a file. A stream of instructions produces the offer's
// files in order; a file ends when it has its size.
type Instruction struct {
	Op     Op
	Base   int   // of Copy: index of the phone's base, from 0
	Offset int64 // of Copy: offset in the base
	Length int64 // number of bytes, at least 1
}

// An Op is the operation of an instruction.
type Op byte

// Ops. An instruction is encoded as its Op and, as unsigned varints (encoding/binary), Base and
// Offset for Copy, and Length; the bytes of Data follow.
const (
	Keep Op = 'k' // the start of the file from an earlier push; only as the first instruction of a file
	Copy Op = 'c' // bytes of a base
	Zero Op = 'z' // zeros, as a hole
	Data Op = 'd' // the following bytes
)

// MaxData is the maximum number of bytes of a Data instruction.
const MaxData = 1 << 20

// Append encodes an instruction, without the bytes of Data.
func (i Instruction) Append(b []byte) []byte {
	b = append(b, byte(i.Op))
	if i.Op == Copy {
		b = binary.AppendUvarint(b, uint64(i.Base))
		b = binary.AppendUvarint(b, uint64(i.Offset))
	}
	return binary.AppendUvarint(b, uint64(i.Length))
}

// ReadInstruction reads an instruction of at most left bytes. The caller must check the base and
// offset of a Copy.
func ReadInstruction(r *bufio.Reader, left int64) (Instruction, error) {
	op, err := r.ReadByte()
	if err != nil {
		return Instruction{}, unexpected(err)
	}
	i := Instruction{Op: Op(op)}
	if i.Op == Copy {
		base, err := readNumber(r, math.MaxInt32)
		if err != nil {
			return i, err
		}
		i.Base = int(base)
		if i.Offset, err = readNumber(r, math.MaxInt64); err != nil {
			return i, err
		}
	}
	if i.Length, err = readNumber(r, left); err != nil {
		return i, err
	}
	switch i.Op {
	case Keep, Copy, Zero, Data:
	default:
		return i, fmt.Errorf("an instruction of kind %q is not known", op)
	}
	if i.Length == 0 || i.Op == Data && i.Length > MaxData || i.Offset > math.MaxInt64-i.Length {
		return i, fmt.Errorf("an instruction %q of %d bytes at %d", op, i.Length, i.Offset)
	}
	return i, nil
}

func readNumber(r io.ByteReader, most int64) (int64, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("read an instruction: %w", err)
	}
	if n > uint64(most) {
		return 0, fmt.Errorf("an instruction has the number %d where at most %d is possible", n, most)
	}
	return int64(n), nil
}
