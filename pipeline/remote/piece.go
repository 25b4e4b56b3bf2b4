package remote

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// Bounds of a piece's length, in bytes. A root file system has about a hundred pieces: few enough
// for one manifest and one request each, and small enough that a changed file changes only a few.
// docs/performance.md has the measured growth.
const (
	minPiece = 256 << 10
	maxPiece = 4 << 20
	// cutMask has as many bits as make a cut fall about every 1 MiB after the minimum.
	cutMask = (1<<20 - 1) << 43
	// maxStored is the largest compressed form of a piece: incompressible data grows a little.
	maxStored = maxPiece + 64<<10
)

// gear maps each byte to a pseudo-random number. The rolling hash below is that of FastCDC (Xia et
// al., USENIX ATC 2016).
var gear = func() (table [256]uint64) {
	for i := range table {
		sum := sha256.Sum256([]byte{'g', 'e', 'a', 'r', byte(i)})
		table[i] = binary.LittleEndian.Uint64(sum[:])
	}
	return table
}()

// cut returns where the first piece of b ends.
func cut(b []byte) int {
	if len(b) <= minPiece {
		return len(b)
	}
	end := min(len(b), maxPiece)
	var hash uint64
	// A byte affects the hash for the next 64 bytes only.
	for i := minPiece - 64; i < end; i++ {
		hash = hash<<1 + gear[b[i]]
		if hash&cutMask == 0 && i >= minPiece {
			return i
		}
	}
	return end
}

// split cuts the content of r into pieces and calls fn with each. fn may keep its argument.
func split(r io.Reader, fn func(content []byte) error) error {
	buffer := make([]byte, 0, 2*maxPiece)
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):min(cap(buffer), len(buffer)+maxPiece)])
		buffer = buffer[:len(buffer)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		for len(buffer) >= maxPiece || last && len(buffer) > 0 {
			end := cut(buffer)
			if err := fn(append([]byte(nil), buffer[:end]...)); err != nil {
				return err
			}
			buffer = append(buffer[:0], buffer[end:]...)
		}
		if last {
			return nil
		}
	}
}

// The level is the fastest, because compression is part of the transfer time. The same version of
// the encoder compresses the same content to the same bytes, so pieces keep their digests.
var encoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(false) })

// otherEncoder compresses the same content to other bytes.
var otherEncoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(true) })

func newEncoder(checksum bool) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(parallel), zstd.WithEncoderCRC(checksum))
	if err != nil {
		panic(err) // the options are wrong: a mistake in this program
	}
	return e
}

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPiece+1))
	if err != nil {
		panic(err)
	}
	return d
})

// pack returns a piece and its compressed form.
func pack(content []byte) (piece, []byte) { return packWith(encoder(), content) }

// repack packs a piece under another digest. It is for a piece that the registry has damaged: a
// registry does not replace the content of a digest that it has.
func repack(content []byte) (piece, []byte) { return packWith(otherEncoder(), content) }

func packWith(e *zstd.Encoder, content []byte) (piece, []byte) {
	stored := e.EncodeAll(content, nil)
	return piece{Digest: store.DigestOf(stored), Size: int64(len(stored)), Length: int64(len(content))}, stored
}

// unpack checks a piece's compressed form and returns its content.
func unpack(p piece, stored []byte) ([]byte, error) {
	if int64(len(stored)) != p.Size {
		return nil, fmt.Errorf("%w: piece %s has %d bytes in place of %d", ErrRefused, p.Digest.Short(), len(stored), p.Size)
	}
	if got := store.DigestOf(stored); got != p.Digest {
		return nil, fmt.Errorf("%w: piece %s has the digest %s", ErrRefused, p.Digest.Short(), got.Short())
	}
	content, err := decoder().DecodeAll(stored, make([]byte, 0, p.Length))
	if err != nil || int64(len(content)) != p.Length {
		return nil, fmt.Errorf("%w: piece %s does not decompress to %d bytes", ErrRefused, p.Digest.Short(), p.Length)
	}
	return content, nil
}
