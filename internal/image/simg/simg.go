// Package simg writes Android's sparse images, the format of fastboot: runs of blocks of a raw
// image. A run that repeats one 32-bit value is stored as that value. The format is defined in
// Android's system/core/libsparse (sparse_format.h, sparse_file.c), whose simg2img reads it.
package simg

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// BlockSize is the block size of the images, in bytes.
const BlockSize = 4096

// Constants of sparse_format.h.
const (
	magic           = 0xed26ff3a // SPARSE_HEADER_MAGIC
	major, minor    = 1, 0
	fileHeaderSize  = 28
	chunkHeaderSize = 12
	chunkRaw        = 0xcac1
	chunkFill       = 0xcac2
)

// fileHeader is sparse_header_t.
type fileHeader struct {
	Magic           uint32
	Major, Minor    uint16
	FileHeaderSize  uint16
	ChunkHeaderSize uint16
	BlockSize       uint32
	Blocks          uint32 // of the raw image
	Chunks          uint32
	ImageChecksum   uint32 // CRC-32 of the raw image; 0: there is none
}

// chunkHeader is chunk_header_t.
type chunkHeader struct {
	Type     uint16
	Reserved uint16
	Blocks   uint32 // of the raw image
	Size     uint32 // of the chunk in the file, this header included
}

// A run is a sequence of blocks of the same kind.
type run struct {
	fill   bool
	value  uint32 // of fill
	blocks uint32
}

// maxRaw is the maximum number of blocks of a raw chunk, so that its size fits into the field.
const maxRaw = 1 << 16

// Write writes the raw image in r, of size bytes, as a sparse image. It pads the last block with
// zeros, and reads the image twice.
func Write(w io.Writer, r io.ReaderAt, size int64) error {
	blocks := (size + BlockSize - 1) / BlockSize
	if size < 0 || blocks > math.MaxUint32 {
		return fmt.Errorf("sparse image: %d bytes are too many", size)
	}
	runs, err := scan(r, size)
	if err != nil {
		return fmt.Errorf("sparse image: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	head := fileHeader{Magic: magic, Major: major, Minor: minor, FileHeaderSize: fileHeaderSize, ChunkHeaderSize: chunkHeaderSize,
		BlockSize: BlockSize, Blocks: uint32(blocks), Chunks: uint32(len(runs))}
	if err := binary.Write(out, binary.LittleEndian, head); err != nil {
		return err
	}
	at := int64(0)
	for _, run := range runs {
		if err := run.write(out, r, at, size); err != nil {
			return fmt.Errorf("sparse image: %w", err)
		}
		at += int64(run.blocks) * BlockSize
	}
	return out.Flush()
}

func (r run) write(w io.Writer, from io.ReaderAt, at, size int64) error {
	h := chunkHeader{Type: chunkRaw, Blocks: r.blocks, Size: chunkHeaderSize + r.blocks*BlockSize}
	if r.fill {
		h.Type, h.Size = chunkFill, chunkHeaderSize+4
	}
	if err := binary.Write(w, binary.LittleEndian, h); err != nil {
		return err
	}
	if r.fill {
		return binary.Write(w, binary.LittleEndian, r.value)
	}
	length := int64(r.blocks) * BlockSize
	there := min(length, size-at)
	if n, err := io.Copy(w, io.NewSectionReader(from, at, there)); err != nil || n != there {
		return fmt.Errorf("read %d bytes at %d: %d came: %w", there, at, n, err)
	}
	_, err := w.Write(make([]byte, length-there))
	return err
}

// scan finds the runs.
func scan(r io.ReaderAt, size int64) ([]run, error) {
	var runs []run
	in := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<20)
	block := make([]byte, BlockSize)
	for at := int64(0); at < size; at += BlockSize {
		n := min(BlockSize, size-at)
		clear(block[n:])
		if _, err := io.ReadFull(in, block[:n]); err != nil {
			return nil, err
		}
		next := run{blocks: 1}
		next.value, next.fill = filled(block)
		if last := len(runs) - 1; last >= 0 && runs[last].fill == next.fill && runs[last].value == next.value &&
			(next.fill || runs[last].blocks < maxRaw) {
			runs[last].blocks++
		} else {
			runs = append(runs, next)
		}
	}
	return runs, nil
}

// filled returns the value that a block repeats, and whether it does.
func filled(block []byte) (uint32, bool) {
	if !bytes.Equal(block[4:], block[:len(block)-4]) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(block), true
}
