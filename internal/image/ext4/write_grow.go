package ext4

import (
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// maxResizeBlocks is the maximum number of blocks of a file system with a resize inode, which maps
// blocks by 32-bit numbers.
const maxResizeBlocks = 1<<32 - 1

// resizeDouble is the index in i_block of the resize inode's only pointer, to a doubly indirect
// block.
const resizeDouble = directPointers + 1

// JournalSize returns the size in bytes of the journal for a writable file system of size bytes:
// mke2fs's default for blocks of 4 KiB (e2fsprogs, lib/ext2fs/mkjournal.c,
// ext2fs_default_journal_size), but at most 64 MiB, its default from 2 to 16 GiB. In a sparse file
// the journal occupies its full size after the kernel has once reached its end; databases change
// too little metadata at once to need mke2fs's larger journals.
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

// hashSeed returns s_hash_seed. On a writable file system, users of a service may choose file
// names; a private seed prevents names with colliding hashes. A zero seed means the default one.
func (o Options) hashSeed() (seed [4]uint32) {
	if o.GrowTo > 0 {
		for i := range seed {
			seed[i] = le.Uint32(o.UUID[4*i:])
		}
	}
	return seed
}

// reservedDescBlocks returns the number of reserved blocks after the descriptors in each copy
// (s_reserved_gdt_blocks). The kernel and e2fsck accept at most as many as a block has pointers. At
// least one is reserved: the kernel does not enlarge a file system that has the feature and an
// empty resize inode.
func (l *layout) reservedDescBlocks() uint64 {
	if l.growTo == 0 {
		return 0
	}
	blocks := min(l.growTo/l.blockSize, maxResizeBlocks)
	groups := divUp(blocks-l.firstDataBlock, l.blocksPerGroup)
	want, have := divUp(groups*groupDescSize64, l.blockSize), l.descBlocks()
	return min(max(want, have+1)-have, l.blockSize/pointerSize)
}

// copyGroups lists the groups with a copy of superblock and descriptors, except group 0.
func (l *layout) copyGroups() (groups []uint64) {
	for g := uint64(1); g < l.groups; g++ {
		if hasSuperCopy(g) {
			groups = append(groups, g)
		}
	}
	return groups
}

// untouched reports whether no block of a group is allocated. Its bitmap follows from its
// descriptor. The last group is never untouched, because its bitmap has padding.
func (l *layout) untouched(g uint64) bool {
	return l.lazy && g+1 < l.groups && l.next <= l.groupStart(g)
}

// planResize adds the resize inode. Its file consists of the reserved descriptor blocks of all
// copies. Those after the primary descriptors are its indirect blocks; each points to the blocks
// with the same position in the copies (e2fsprogs, lib/ext2fs/res_gdt.c; kernel, fs/ext4/resize.c).
// One more block points to the indirect blocks. The file's size is the maximum that this block can
// map.
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

// encodeResize returns the resize inode's i_block and the number of its blocks.
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
