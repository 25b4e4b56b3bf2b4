package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"
)

// Output is written in chunks of outputChunk bytes. outputChunks of them are in memory: one is
// filled while others are written.
const (
	outputChunk  = 1 << 20
	outputChunks = 4
)

// An output combines the blocks of an image, which are mostly consecutive, into large writes of a
// separate goroutine.
type output struct {
	target    Target
	blockSize int
	progress  func(int64)

	current chunk
	full    chan chunk
	free    chan []byte
	done    chan struct{}
	failed  atomic.Pointer[error] // the first failed write
	// sum hashes the block numbers and checksums of the written blocks; nil if not needed. It
	// hashes a checksum of each block instead of its bytes: crc32c is as fast as memory, and the
	// sum only distinguishes images, it is not a proof.
	sum hash.Hash
}

// A chunk is a number of bytes and their block number.
type chunk struct {
	at uint64
	b  []byte
}

// newOutput returns an output to target. The sum begins with front.
func newOutput(target Target, o Options, front []byte) *output {
	out := &output{
		target:    target,
		blockSize: o.BlockSize,
		progress:  o.Progress,
		full:      make(chan chunk, outputChunks),
		free:      make(chan []byte, outputChunks),
		done:      make(chan struct{}),
	}
	if o.UUID == [16]byte{} {
		out.sum = sha256.New()
		out.sum.Write(front)
	}
	for range outputChunks {
		out.free <- make([]byte, 0, outputChunk)
	}
	out.current.b = <-out.free
	go out.drain()
	return out
}

// drain writes chunks until the channel is closed. After an error it discards them.
func (o *output) drain() {
	defer close(o.done)
	for c := range o.full {
		if o.failed.Load() == nil {
			if err := o.writeChunk(c); err != nil {
				o.failed.Store(&err)
			}
		}
		o.free <- c.b[:0]
	}
}

func (o *output) writeChunk(c chunk) error {
	if o.sum != nil {
		o.addSum(c)
	}
	if _, err := o.target.WriteAt(c.b, int64(c.at)*int64(o.blockSize)); err != nil {
		return fmt.Errorf("write %d bytes at block %d: %w", len(c.b), c.at, err)
	}
	return nil
}

func (o *output) addSum(c chunk) {
	var record [12]byte
	for i := 0; i < len(c.b); i += o.blockSize {
		binary.LittleEndian.PutUint64(record[:], c.at+uint64(i/o.blockSize))
		binary.LittleEndian.PutUint32(record[8:], crc32c(0, c.b[i:i+o.blockSize]))
		o.sum.Write(record[:])
	}
}

// chunkBlocks returns the maximum count for next.
func (o *output) chunkBlocks() uint64 { return uint64(outputChunk / o.blockSize) }

// next returns the buffer for count blocks from block at on. The caller fills it completely before
// the next call.
func (o *output) next(at, count uint64) ([]byte, error) {
	n := int(count) * o.blockSize
	have := len(o.current.b)
	if have+n > cap(o.current.b) || have > 0 && at != o.current.at+uint64(have/o.blockSize) {
		if err := o.flush(); err != nil {
			return nil, err
		}
		have = 0
	}
	if have == 0 {
		o.current.at = at
	}
	o.current.b = o.current.b[:have+n]
	return o.current.b[have:], nil
}

// write writes one block.
func (o *output) write(at uint64, block []byte) error {
	b, err := o.next(at, 1)
	if err != nil {
		return err
	}
	copy(b, block)
	return nil
}

// flush passes the current chunk to the writing goroutine.
func (o *output) flush() error {
	if failed := o.failed.Load(); failed != nil {
		return *failed
	}
	if len(o.current.b) == 0 {
		return nil
	}
	if o.progress != nil {
		o.progress(int64(len(o.current.b)))
	}
	o.full <- o.current
	o.current = chunk{b: <-o.free}
	return nil
}

// close waits until all is written and returns the sum, if requested.
func (o *output) close() ([]byte, error) {
	err := o.flush()
	close(o.full)
	<-o.done
	if failed := o.failed.Load(); failed != nil {
		return nil, *failed
	}
	if err != nil || o.sum == nil {
		return nil, err
	}
	return o.sum.Sum(nil), nil
}

// uuidOf makes a UUID of version 8 (RFC 9562, section 5.8) from a sum.
func uuidOf(sum []byte) (uuid [16]byte) {
	copy(uuid[:], sum)
	uuid[6] = uuid[6]&0x0F | 0x80
	uuid[8] = uuid[8]&0x3F | 0x80
	return uuid
}
