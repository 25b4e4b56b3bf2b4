package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"
)

// Output is written in chunks of outputChunk bytes, of which outputChunks are
// in memory: one is filled while others are written.
const (
	outputChunk  = 1 << 20
	outputChunks = 4
)

// An output gathers the blocks of an image, which come mostly one after
// another, into large writes, done by a goroutine of its own.
type output struct {
	target    Target
	blockSize int
	progress  func(int64)

	current chunk
	full    chan chunk
	free    chan []byte
	done    chan struct{}
	failed  atomic.Pointer[error] // the first failed write
	// sum is over the numbers of the blocks written and their checksums; nil
	// if the caller does not want to know. A checksum each instead of the bytes: crc32c
	// is as fast as memory, and this is to tell images apart, not to prove anything.
	sum hash.Hash
}

// A chunk is bytes and the block number where they belong.
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

// drain writes chunks until there are no more; after a failure it passes them over.
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

// chunkBlocks is how many blocks next can be asked for at once.
func (o *output) chunkBlocks() uint64 { return uint64(outputChunk / o.blockSize) }

// next gives the place for count blocks from block at on, for the caller to
// fill whole before the next call.
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

// write puts one block.
func (o *output) write(at uint64, block []byte) error {
	b, err := o.next(at, 1)
	if err != nil {
		return err
	}
	copy(b, block)
	return nil
}

// flush hands what was gathered to the goroutine that writes it.
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

// close waits until all is written and returns the sum over it, if one was wanted.
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

// uuidOf makes a UUID of a sum: version 8, for what is neither random nor a
// name (RFC 9562, section 5.8).
func uuidOf(sum []byte) (uuid [16]byte) {
	copy(uuid[:], sum)
	uuid[6] = uuid[6]&0x0F | 0x80
	uuid[8] = uuid[8]&0x3F | 0x80
	return uuid
}
