package ext4

import (
	"context"
	"fmt"
	"slices"
)

// An imageWriter writes a plan with its layout to a target.
type imageWriter struct {
	ctx    context.Context
	target Target
	p      *plan
	l      *layout
	out    *output
	sb     superblock
	seed   uint32 // of all checksums
}

func newImageWriter(ctx context.Context, target Target, p *plan, l *layout) *imageWriter {
	sb := newSuperblock(p, l)
	return &imageWriter{ctx: ctx, target: target, p: p, l: l, sb: sb, seed: sb.checksumSeed()}
}

func (w *imageWriter) write() error {
	if err := w.prepare(); err != nil {
		return err
	}
	front, err := w.sb.encodeWithChecksum(0)
	if err != nil {
		return err
	}
	w.out = newOutput(w.target, w.p.o, front)
	descs, err := w.writeBody()
	sum, closeErr := w.out.close()
	if err != nil {
		return err
	}
	if closeErr != nil {
		return closeErr
	}
	if w.sb.UUID == [16]byte{} {
		w.sb.UUID = uuidOf(sum)
	}
	return w.writeFront(descs)
}

// writeBody writes everything but superblocks, descriptors and the journal.
func (w *imageWriter) writeBody() ([]groupDesc, error) {
	descs, err := w.writeBitmaps()
	if err != nil {
		return nil, err
	}
	if err := w.writeInodeTables(); err != nil {
		return nil, err
	}
	return descs, w.p.inOrder(func(n *node) error {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.writeNode(n); err != nil {
			return fmt.Errorf("%s: %w", n.path(), err)
		}
		return nil
	})
}

// writeNode writes the blocks that belong to an inode.
func (w *imageWriter) writeNode(n *node) error {
	iseed := inodeSeed(w.seed, n.ino, 0)
	var err error
	switch {
	case n == w.p.journal: // its superblock has the UUID; the rest is zero
		if w.p.o.Device {
			err = w.clearJournal()
		}
	case n == w.p.resize:
		err = w.writeResize(n)
	case n.dir != nil:
		err = w.writeDir(n, iseed)
	default:
		err = w.writeContent(n)
	}
	if err != nil {
		return err
	}
	if len(n.treeBlocks) > 0 {
		if _, err := encodeExtentTree(n, w.p.o.BlockSize, iseed, w.out.write); err != nil {
			return err
		}
	}
	if n.xattrBlock != 0 {
		b, err := w.out.next(n.xattrBlock, 1)
		if err != nil {
			return err
		}
		n.attrs.encodeBlock(b, w.seed, n.xattrBlock)
	}
	return nil
}

// writeFront writes what depends on the rest of the image: the journal's superblock, superblocks
// and descriptors. The primary superblock, which makes the image valid, comes last.
func (w *imageWriter) writeFront(descs []groupDesc) error {
	if j := w.p.journal; j != nil {
		root, err := encodeExtentTree(j, w.p.o.BlockSize, 0, nil)
		if err != nil {
			return err
		}
		w.sb.addJournal(j, root)
		b, err := encodeJournalSuperblock(j, w.p.o.BlockSize, w.sb.UUID)
		if err != nil {
			return err
		}
		if _, err := w.target.WriteAt(b, w.offset(j.extents[0].Start)); err != nil {
			return fmt.Errorf("write the journal's superblock: %w", err)
		}
	}
	table := w.encodeDescriptors(descs)
	for _, g := range slices.Backward(append([]uint64{0}, w.l.copyGroups()...)) {
		if _, err := w.target.WriteAt(table, w.offset(w.l.groupStart(g)+1)); err != nil {
			return fmt.Errorf("write the group descriptors in group %d: %w", g, err)
		}
		if err := w.writeSuperblock(g); err != nil {
			return fmt.Errorf("write the superblock of group %d: %w", g, err)
		}
	}
	return nil
}

// writeSuperblock writes the superblock of a group, with the rest of its block. In group 0 the boot
// sector precedes it.
func (w *imageWriter) writeSuperblock(g uint64) error {
	b, err := w.sb.encodeWithChecksum(g)
	if err != nil {
		return err
	}
	at, offset := w.offset(w.l.groupStart(g)), 0
	if g == 0 {
		at, offset = 0, superblockOffset
	}
	block := make([]byte, max(w.l.blockSize, uint64(offset+len(b))))
	copy(block[offset:], b)
	_, err = w.target.WriteAt(block, at)
	return err
}

func (w *imageWriter) offset(block uint64) int64 { return int64(block * w.l.blockSize) }
