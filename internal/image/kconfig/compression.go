package kconfig

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

const gzipMagic = "\x1f\x8b\x08"

// magics are the first bytes of the formats that the kernel's build uses.
var magics = []struct{ format, magic string }{
	{"gzip", gzipMagic},
	{"lz4", lz4LegacyMagic},
	{"lz4", lz4FrameMagic},
	{"zstd", "\x28\xb5\x2f\xfd"},
	{"xz", xzMagic},
	{"bzip2", "BZh"},
	// The .lzma format has no magic; these are the properties byte and the
	// start of the dictionary size that `lzma -9` writes.
	{"lzma", "\x5d\x00\x00"},
}

// compression names the format that b is compressed with, or returns "".
func compression(b []byte) string {
	for _, m := range magics {
		if strings.HasPrefix(string(b[:min(len(b), 8)]), m.magic) {
			return m.format
		}
	}
	return ""
}

// decompress decompresses b to at most limit bytes.
func decompress(format string, b []byte, limit int) ([]byte, error) {
	out, err := func() ([]byte, error) {
		switch format {
		case "gzip":
			r, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			r.Multistream(false) // images have padding after the stream
			return readLimited(r, limit)
		case "lz4":
			return decodeLZ4(b, limit)
		case "zstd":
			return decodeZstd(b, limit)
		case "xz":
			return decodeXZ(b, limit)
		case "bzip2":
			return readLimited(bzip2.NewReader(bytes.NewReader(b)), limit)
		case "lzma":
			return decodeLZMA(b, limit)
		}
		return nil, fmt.Errorf("unknown format")
	}()
	if err != nil {
		return nil, fmt.Errorf("uncompress %s: %w", format, err)
	}
	return out, nil
}

func decodeZstd(b []byte, limit int) ([]byte, error) {
	// One goroutine, and a window of at most the output limit.
	r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(uint64(max(limit, zstd.MinWindowSize))), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readLimited(r, limit)
}

func decodeLZMA(b []byte, limit int) ([]byte, error) {
	// The header's dictionary size decides how much memory the reader takes.
	const headerLength, dictOffset = 13, 1
	if len(b) < headerLength {
		return nil, io.ErrUnexpectedEOF
	}
	dict := int64(b[dictOffset]) | int64(b[dictOffset+1])<<8 | int64(b[dictOffset+2])<<16 | int64(b[dictOffset+3])<<24
	if dict > int64(limit) {
		return nil, fmt.Errorf("a dictionary of %d bytes is too large", dict)
	}
	r, err := lzma.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return readLimited(r, limit)
}
