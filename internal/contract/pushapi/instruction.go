package pushapi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// An Instruction makes the next bytes of a file. A stream of them makes the offer's files in their
// order, each with its size in bytes: a file ends where it has them.
type Instruction struct {
	Op     Op
	Base   int   // of Copy: which of the phone's bases, counted from 0
	Offset int64 // of Copy: where in it
	Length int64 // bytes that it makes; at least 1
}

// An Op is what an instruction does.
type Op byte

// Ops. An instruction is encoded as its Op and, as unsigned varints (encoding/binary), Base and
// Offset for Copy, and Length; the bytes of Data follow.
const (
	Keep Op = 'k' // what has come of the file in an earlier push, from its beginning; only as a file's first
	Copy Op = 'c' // bytes of a base
	Zero Op = 'z' // zeros, as a hole
	Data Op = 'd' // the bytes that follow
)

// MaxData bounds the bytes of one Data instruction.
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

// ReadInstruction reads an instruction that may make at most left bytes. What a Copy names is the
// caller's to check.
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
