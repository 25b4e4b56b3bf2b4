package ext4

import (
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// writeContent writes a file's extents.
//
// The bytes pass through memory even between files: for contents of a tar, at multiples of 512,
// copy_file_range(2) was not faster than parallel reads and writes, and the sum needs the bytes.
func (w *imageWriter) writeContent(n *node) error {
	if len(n.extents) == 0 {
		return nil
	}
	content, bs := n.content(), int64(w.p.o.BlockSize)
	for _, e := range n.extents {
		off, at := int64(e.Block)*bs, e.Start
		for left := uint64(e.Len); left > 0; {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			count := min(left, w.out.chunkBlocks())
			b, err := w.out.next(at, count)
			if err != nil {
				return err
			}
			if err := readBlocks(content, off, b); err != nil {
				return err
			}
			off += int64(count) * bs
			at += count
			left -= count
		}
	}
	return nil
}

// readBlocks fills b with a file's bytes from off, and with zeros after its end.
func readBlocks(c tree.Content, off int64, b []byte) error {
	size := min(int64(len(b)), c.Size-off)
	clear(b[size:])
	if n, err := c.ReadAt(b[:size], off); int64(n) < size {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// writeDir writes a directory's blocks.
func (w *imageWriter) writeDir(n *node, iseed uint32) error {
	extents, done := n.extents, uint32(0)
	return n.dir.encode(n, iseed, func(block []byte) error {
		if len(extents) > 0 && done == extents[0].Len {
			extents, done = extents[1:], 0
		}
		if len(extents) == 0 {
			return fmt.Errorf("directory has more than the %d blocks planned", n.dir.blocks())
		}
		at := extents[0].Start + uint64(done)
		done++
		return w.out.write(at, block)
	})
}
