package ext4

import (
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// maxResizeBlocks is how many blocks a file system with a resize inode can have: the inode maps
// blocks by numbers of 32 bits.
const maxResizeBlocks = 1<<32 - 1

// resizeDouble is the index in i_block of the resize inode's only pointer, that to a block of
// pointers to blocks of pointers.
const resizeDouble = directPointers + 1

// JournalSize returns the size in bytes of the journal for a file system of size bytes that is
// written to: what mke2fs chooses for blocks of 4 KiB (e2fsprogs, lib/ext2fs/mkjournal.c,
// ext2fs_default_journal_size), but at most 64 MiB, which is its choice from 2 to 16 GiB. A journal
// takes all of its room in a sparse file once the kernel has reached its end; the larger ones of
// mke2fs are for machines that change far more metadata at once than databases do.
func JournalSize(size int64) int64 {
	switch {
	case size < 128<<20:
		return 4 << 20
	case size < 1<<30:
		return 16 << 20
	case size < 2<<30:
		return 32 << 20
	}
	return 64 << 20
}

// lazy reports whether groups without content are left uninitialised.
func (o Options) lazy() bool { return o.GrowTo > 0 || o.Device }

// hashSeed is s_hash_seed. Users of a service may choose the names of files on a file system that
// grows: its own seed keeps them from choosing names whose hashes collide. A seed of zeros stands
// for the default one.
func (o Options) hashSeed() (seed [4]uint32) {
	if o.GrowTo > 0 {
		for i := range seed {
			seed[i] = le.Uint32(o.UUID[4*i:])
		}
	}
	return seed
}

// reservedDescBlocks is how many blocks behind the descriptors, in each copy, are kept for the
// descriptors of groups to come (s_reserved_gdt_blocks). The kernel and e2fsck accept at most as
// many as a block has pointers. At least one is reserved: the kernel does not enlarge a file system
// that has the feature and an empty resize inode.
func (l *layout) reservedDescBlocks() uint64 {
	if l.growTo == 0 {
		return 0
	}
	blocks := min(l.growTo/l.blockSize, maxResizeBlocks)
	groups := divUp(blocks-l.firstDataBlock, l.blocksPerGroup)
	want, have := divUp(groups*groupDescSize64, l.blockSize), l.descBlocks()
	return min(max(want, have+1)-have, l.blockSize/pointerSize)
}

// copyGroups lists the groups with a copy of superblock and descriptors, but for group 0.
func (l *layout) copyGroups() (groups []uint64) {
	for g := uint64(1); g < l.groups; g++ {
		if hasSuperCopy(g) {
			groups = append(groups, g)
		}
	}
	return groups
}

// untouched reports whether nothing was given out of a group. Its bitmap follows from its
// descriptor. The last group is not one of these: its bitmap has padding.
func (l *layout) untouched(g uint64) bool {
	return l.lazy && g+1 < l.groups && l.next <= l.groupStart(g)
}

// planResize adds the resize inode. Its file is the reserved descriptor blocks of all copies:
// those behind the primary descriptors are its blocks of pointers, each to the blocks with
// the same place in the copies (e2fsprogs, lib/ext2fs/res_gdt.c; kernel, fs/ext4/resize.c). It
// needs a block for the pointers to these. Its size is that of all that such a block can lead to.
func (p *plan) planResize() {
	pointers := int64(p.o.BlockSize) / pointerSize
	p.resize = &node{
		in:    &tree.Inode{Mode: tree.S_IFREG | 0o600, ModTime: p.o.ModTime},
		name:  "(resize inode)",
		ino:   inodeResize,
		links: 1,
		size:  (directPointers + pointers + pointers*pointers) * int64(p.o.BlockSize),
	}
}

// encodeResize gives the resize inode's i_block and how many blocks belong to it.
func (w *imageWriter) encodeResize(n *node) (block [inodeBlockSize]byte, blocks uint64) {
	le.PutUint32(block[resizeDouble*pointerSize:], uint32(n.extents[0].Start))
	return block, 1 + w.l.reservedDescBlocks()*uint64(1+len(w.l.copyGroups()))
}

// writeResize writes the resize inode's blocks of pointers.
func (w *imageWriter) writeResize(n *node) error {
	l := w.l
	copies, have, pointers := l.copyGroups(), l.descBlocks(), l.blockSize/pointerSize
	double := make([]byte, l.blockSize)
	for i := have; i < have+l.reservedDescBlocks(); i++ {
		at := l.firstDataBlock + 1 + i
		le.PutUint32(double[i%pointers*pointerSize:], uint32(at))
		b, err := w.out.next(at, 1)
		if err != nil {
			return err
		}
		clear(b)
		for j, g := range copies {
			le.PutUint32(b[j*pointerSize:], uint32(at+g*l.blocksPerGroup))
		}
	}
	return w.out.write(n.extents[0].Start, double)
}
