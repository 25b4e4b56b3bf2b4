// Package verity makes and checks hash trees of dm-verity. With a tree and its root digest, the
// kernel verifies each block of a read-only disk on every read.
//
// The tree follows the data in the same file, after a superblock from which `veritysetup verify`
// reads the parameters. The format is version 1 of
// Documentation/admin-guide/device-mapper/verity.rst in Linux, with SHA-256, blocks of 4096 bytes,
// no salt, and a UUID of zeros:
//
//	data | superblock, 1 block | level n-1, 1 block | ... | level 0: a digest for each block of data
//
// SHA-256 does not need a salt, and without one a tree changes only where the data changes: an
// update of a machine on a phone sends only the changed blocks.
package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// BlockSize is the size of the blocks of data and tree, in bytes.
const BlockSize = 4096

// A Digest is the root of a tree, the digest of all data.
type Digest [sha256.Size]byte

// String returns 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest parses the format of String.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(d) || text != hex.EncodeToString(raw) {
		return d, fmt.Errorf("%.80q is not a root hash: must be %d lower-case hexadecimal digits", text, 2*len(d))
	}
	return Digest(raw), nil
}

// perBlock is how many digests a block of the tree holds.
const perBlock = BlockSize / sha256.Size

// maxData is the largest data of a tree, in bytes: ext4's maximum with blocks of 4096 bytes.
const maxData = 1 << 60

// CheckSize returns an error for sizes of data that a tree cannot cover.
func CheckSize(data int64) error {
	if data <= 0 || data%BlockSize != 0 || data > maxData {
		return fmt.Errorf("hash tree of %d bytes: must be a positive multiple of %d bytes", data, BlockSize)
	}
	return nil
}

// layout returns the number of the first block of each level, beginning with level 0, and the
// number of the block after the tree. A tree of one data block has no levels: its digest is the
// root.
func layout(blocks int64) (levels []int64, end int64) {
	var sizes []int64
	for n := blocks; n > 1; sizes = append(sizes, n) {
		n = (n + perBlock - 1) / perBlock
	}
	levels = make([]int64, len(sizes))
	end = blocks + 1 // the superblock
	for i := len(sizes) - 1; i >= 0; i-- {
		levels[i] = end
		end += sizes[i]
	}
	return levels, end
}

// FileSize returns the size of a file with data of that many bytes, which CheckSize accepts, and
// its tree.
func FileSize(data int64) int64 {
	_, end := layout(data / BlockSize)
	return end * BlockSize
}

// superblock returns the block after the data (struct verity_sb in lib/verity/verity.c of
// cryptsetup).
func superblock(blocks int64) []byte {
	b := make([]byte, BlockSize)
	copy(b, "verity\x00\x00")
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)  // version of the superblock
	le.PutUint32(b[12:], 1) // hash type: "normal"
	copy(b[32:64], "sha256")
	le.PutUint32(b[64:], BlockSize) // of data
	le.PutUint32(b[68:], BlockSize) // of the tree
	le.PutUint64(b[72:], uint64(blocks))
	return b
}

// A File is read and written by Write.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Write writes the tree of the first data bytes of a file after them, and returns its root. Memory
// does not grow with the data.
func Write(ctx context.Context, f File, data int64) (Digest, error) {
	root, err := build(ctx, f, data, func(b []byte, at int64) error {
		_, err := f.WriteAt(b, at)
		return err
	})
	if err != nil {
		return Digest{}, fmt.Errorf("write hash tree: %w", err)
	}
	return root, nil
}

// A DamageError says which blocks of a file do not match its root hash.
type DamageError struct {
	First  int64 // the first of them, counted from the beginning of the file; -1: data and tree match each other, but not the root hash
	Blocks int64 // how many
}

func (e *DamageError) Error() string {
	switch {
	case e.First < 0:
		return "every block belongs to another root hash"
	case e.Blocks == 1:
		return fmt.Sprintf("block %d", e.First)
	}
	return fmt.Sprintf("block %d and %d others", e.First, e.Blocks-1)
}

func (e *DamageError) note(block int64) {
	if e.Blocks == 0 || block < e.First {
		e.First = block
	}
	e.Blocks++
}

// Check compares data and tree of a file with a root hash. The error is a *DamageError if they
// differ.
func Check(ctx context.Context, r io.ReaderAt, data int64, root Digest) error {
	var inData, inTree DamageError
	levels, _ := layout(data / BlockSize)
	stored := make([]byte, BlockSize)
	made, err := build(ctx, r, data, func(b []byte, at int64) error {
		if n, err := r.ReadAt(stored, at); n < len(stored) {
			return err
		}
		if bytes.Equal(b, stored) {
			return nil
		}
		block := at / BlockSize
		inTree.note(block)
		if len(levels) > 0 && block >= levels[0] { // a digest that differs is that of a block of data
			for i := 0; i < BlockSize; i += sha256.Size {
				if !bytes.Equal(b[i:i+sha256.Size], stored[i:i+sha256.Size]) {
					inData.note((block-levels[0])*perBlock + int64(i/sha256.Size))
				}
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("check hash tree: %w", err)
	case made != root && inData.Blocks > 0:
		return &inData
	case made != root:
		return &DamageError{First: -1, Blocks: data / BlockSize}
	case inTree.Blocks > 0:
		return &inTree
	}
	return nil
}

// build computes the tree of the data in r and calls emit with its blocks and their offsets in the
// file.
func build(ctx context.Context, r io.ReaderAt, data int64, emit func(block []byte, at int64) error) (Digest, error) {
	if err := CheckSize(data); err != nil {
		return Digest{}, err
	}
	blocks := data / BlockSize
	if err := emit(superblock(blocks), data); err != nil {
		return Digest{}, err
	}
	next, _ := layout(blocks)         // the position of the next block of each level
	open := make([][]byte, len(next)) // the content of that block so far
	for i := range open {
		open[i] = make([]byte, 0, BlockSize)
	}
	// add appends digests to a level.
	var add func(level int, digests []byte) error
	// finish completes the open block of a level.
	finish := func(level int) error {
		b := open[level][:BlockSize]
		clear(b[len(open[level]):])
		open[level] = b[:0]
		if err := emit(b, next[level]*BlockSize); err != nil {
			return err
		}
		next[level]++
		sum := sha256.Sum256(b)
		return add(level+1, sum[:])
	}
	var root Digest
	add = func(level int, digests []byte) error {
		if level == len(next) {
			copy(root[:], digests)
			return nil
		}
		for len(digests) > 0 {
			n := min(len(digests), BlockSize-len(open[level]))
			open[level], digests = append(open[level], digests[:n]...), digests[n:]
			if len(open[level]) == BlockSize {
				if err := finish(level); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := digestsOf(ctx, r, blocks, func(digests []byte) error { return add(0, digests) }); err != nil {
		return Digest{}, err
	}
	for level := range next {
		if len(open[level]) > 0 {
			if err := finish(level); err != nil {
				return Digest{}, err
			}
		}
	}
	return root, nil
}

// digestsOf calls emit with the digests of the first blocks of r, in order. Each processor hashes a
// part of the data.
func digestsOf(ctx context.Context, r io.ReaderAt, blocks int64, emit func(digests []byte) error) error {
	type piece struct {
		data, digests []byte
		err           error
	}
	pieces := make([]piece, runtime.GOMAXPROCS(0))
	for i := range pieces {
		pieces[i] = piece{data: make([]byte, perBlock*BlockSize), digests: make([]byte, BlockSize)}
	}
	for first := int64(0); first < blocks; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var group sync.WaitGroup
		used := 0
		for i := range pieces {
			n := min(blocks-first, perBlock)
			if n == 0 {
				break
			}
			p, at := &pieces[i], first*BlockSize
			p.data, p.digests = p.data[:n*BlockSize], p.digests[:n*sha256.Size]
			group.Go(func() { p.err = hash(r, at, p.data, p.digests) })
			first += n
			used++
		}
		group.Wait()
		for _, p := range pieces[:used] {
			if p.err != nil {
				return p.err
			}
			if err := emit(p.digests); err != nil {
				return err
			}
		}
	}
	return nil
}

// hash reads blocks and computes their digests.
func hash(r io.ReaderAt, at int64, data, digests []byte) error {
	if n, err := r.ReadAt(data, at); n < len(data) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for i := 0; i*BlockSize < len(data); i++ {
		sum := sha256.Sum256(data[i*BlockSize : (i+1)*BlockSize])
		copy(digests[i*sha256.Size:], sum[:])
	}
	return nil
}

// Parameters returns the kernel parameters that map a disk with a tree as the root file system
// before any program runs (Documentation/admin-guide/device-mapper/dm-init.rst). The kernel panics
// on a block that does not match.
func Parameters(disk string, data int64, root Digest) []string {
	return []string{fmt.Sprintf(`dm-mod.create="root,,,ro,%s"`, Target(disk, data, root)), "root=/dev/dm-0"}
}

// Target returns the device mapper table line that maps a disk with a tree
// (Documentation/admin-guide/device-mapper/verity.rst). The disk is a path, or PARTUUID= and a
// GUID.
func Target(disk string, data int64, root Digest) string {
	blocks := data / BlockSize
	return fmt.Sprintf("0 %d verity 1 %s %[2]s %d %[3]d %d %d sha256 %s - 1 panic_on_corruption", data/512, disk, BlockSize, blocks, blocks+1, root)
}
