// Package chunk cuts files into chunks at positions that depend on their content, so that two
// versions of a file have most of their chunks in common even at other offsets, and names each
// chunk by its SHA-256.
//
// The cuts are those of FastCDC (W. Xia et al., "FastCDC: a Fast and Efficient Content-Defined
// Chunking Approach for Data Deduplication", USENIX ATC 2016): a cut is where certain bits of a
// gear hash of the bytes are zero. Before the normal size more bits must be zero than after it,
// which reduces the variance of the sizes.
//
// The sizes are chosen for a file system image, in which files move by whole blocks of 4 KiB and a
// changed setting changes a block here and there: its own, an inode table's, the superblock and its
// copy. Of the image of PostgreSQL (138 MB), such a setting changed four blocks. What would travel,
// compressed, with chunks of these sizes, and how many they are:
//
//	4 KiB blocks at fixed places           1.7 KB  33,700
//	1 to 8 KiB, normally 2                 1.2 KB  51,200
//	1 to 8 KiB, normally 4 (these)         2.1 KB  27,300
//	1 to 32 KiB, normally 4                3.2 KB  26,900
//	4 to 64 KiB, normally 16              12.8 KB   6,800
//
// A small Max matters because zeros, which are frequent in metadata, have no cuts. Blocks at fixed
// offsets would be good enough for an image, but do not match content that moves within a file: a
// recompiled program costs a third more (3.0 MB instead of 2.2 of an 8 MB program).
package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// Version is the version of the cutting algorithm. Lists of different versions cannot be compared.
const Version = 1

// Sizes of chunks, in bytes. Only a file's last chunk may be shorter than Min.
const (
	Min    = 1 << 10
	Normal = 4 << 10
	Max    = 8 << 10
)

// A Sum names a chunk's content: its SHA-256.
type Sum [sha256.Size]byte

// A Chunk is a piece of a file.
type Chunk struct {
	Offset int64
	Size   int
	Sum    Sum
	Zero   bool // all its bytes are zero
}

// normalization is by how many bits the two masks differ from the one that makes chunks of Normal
// bytes on average (FastCDC, section 3.4: level 2 is the best there).
const normalization = 2

var (
	strict = mask(bits.Len(Normal) - 1 + normalization)
	loose  = mask(bits.Len(Normal) - 1 - normalization)
)

// mask has n bits set, the highest: each of them depends on the last 64 bytes.
func mask(n int) uint64 { return ^uint64(0) << (64 - n) }

// gear has a pseudo-random number for each value of a byte, derived with SHA-256, so that other
// implementations can reproduce it.
var gear = func() (table [256]uint64) {
	for i := range table {
		sum := sha256.Sum256([]byte{'s', 'o', 'v', ' ', 'g', 'e', 'a', 'r', byte(i)})
		table[i] = binary.BigEndian.Uint64(sum[:])
	}
	return table
}()

// Cut returns the size of the first chunk of b, which is len(b) if there is no cut. b must have at
// least Max bytes, or be the end of the file.
func Cut(b []byte) int {
	if len(b) <= Min {
		return len(b)
	}
	b = b[:min(len(b), Max)]
	usual := min(len(b), Normal)
	var hash uint64
	i := Min
	for ; i < usual; i++ {
		if hash = hash<<1 + gear[b[i]]; hash&strict == 0 {
			return i + 1
		}
	}
	for ; i < len(b); i++ {
		if hash = hash<<1 + gear[b[i]]; hash&loose == 0 {
			return i + 1
		}
	}
	return len(b)
}

// buffered is how much of a file is read at a time.
const buffered = 1 << 20

// Each calls do for every chunk of r, in order. content is valid until do returns. Each returns the
// first error of r or do.
func Each(r io.Reader, do func(c Chunk, content []byte) error) error {
	buffer := make([]byte, buffered)
	var offset int64
	begin, end, last := 0, 0, false
	for {
		if !last && end-begin < Max {
			end = copy(buffer, buffer[begin:end])
			begin = 0
			n, err := io.ReadFull(r, buffer[end:])
			end += n
			last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if err != nil && !last {
				return err
			}
		}
		if begin == end {
			return nil
		}
		size := Cut(buffer[begin:end])
		content := buffer[begin : begin+size]
		c := Chunk{Offset: offset, Size: size, Zero: isZero(content)}
		c.Sum = sha256.Sum256(content)
		if err := do(c, content); err != nil {
			return err
		}
		begin += size
		offset += int64(size)
	}
}

// zeros is compared with chunks by bytes.Equal, which is faster than a loop.
var zeros [Max]byte

func isZero(b []byte) bool { return string(b) == string(zeros[:len(b)]) }
