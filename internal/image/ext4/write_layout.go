package ext4

import (
	"fmt"
	"math"
	"syscall"
)

// bytesPerInode is the ratio of an image's given size to the number of its free inodes; mke2fs's
// inode_ratio.
const bytesPerInode = 16 << 10

// minLastGroup is the minimum number of blocks in the last group, without its copies of superblock
// and descriptors; mke2fs drops a group with fewer.
const minLastGroup = 50

// A layout assigns blocks. Bitmaps and inode tables of all groups are together at the front
// (flex_bg allows it). The content follows in the order of plan.inOrder, so the image is written
// sequentially. Free blocks are at the end.
type layout struct {
	blockSize      uint64
	firstDataBlock uint64 // of group 0
	blocksPerGroup uint64
	inodesPerGroup uint64
	groups         uint64
	blocks         uint64 // in the file system
	growTo         uint64 // bytes for which descriptors are reserved
	lazy           bool   // groups without content are left uninitialised
	imageSize      int64  // may exceed the blocks by a part of a block

	blockBitmaps []uint64 // by group
	inodeBitmaps []uint64
	inodeTables  []uint64

	next  uint64 // first unallocated block; all before it are in use, except gaps
	limit uint64 // end of the blocks that can be allocated
	gaps  []span // skipped to find a long enough run
}

// A span is a run of blocks.
type span struct{ start, count uint64 }

func (s span) end() uint64 { return s.start + s.count }

// errNoSpace adds advice to ENOSPC.
var errNoSpace = fmt.Errorf("no room left in the image, make it larger: %w", syscall.ENOSPC)

// layOut computes the layout of a plan.
func (p *plan) layOut() (*layout, error) {
	bs := uint64(p.o.BlockSize)
	l := &layout{blockSize: bs, blocksPerGroup: min(8*bs, maxBlocksPerGroup), growTo: uint64(p.o.GrowTo), lazy: p.o.lazy()}
	if bs == minBlockSize {
		l.firstDataBlock = 1 // block 0 is the boot sector, the superblock follows
	}
	if p.o.Size > 0 {
		return l, l.fill(p)
	}
	return l, l.shrink(p)
}

// shrink computes the smallest layout, with just enough groups for the blocks and for the inodes. A
// group has at most as many inodes as a block has bits.
func (l *layout) shrink(p *plan) error {
	inodes := uint64(max(int64(p.lastInode()), p.o.Inodes))
	maxPerGroup := l.blocksPerGroup
	l.groups = max(1, divUp(inodes, 8*l.blockSize))
	l.limit = math.MaxUint64
	for {
		if err := l.place(p, inodes); err != nil {
			return err
		}
		need := l.next - l.firstDataBlock
		groups := divUp(need, l.blocksPerGroup)
		if groups == l.groups {
			break
		}
		if groups > l.groups && l.blocksPerGroup == maxPerGroup {
			l.groups = groups
			continue
		}
		if groups < l.groups && l.blocksPerGroup < maxPerGroup {
			break
		}
		// For many small inodes, use smaller groups instead of empty space. One block more is for
		// the copies, which move.
		l.blocksPerGroup = min(maxPerGroup, roundUp(divUp(need, l.groups)+1, 8))
	}
	// The last group has at least its copies.
	l.blocks = max(l.next, l.groupStart(l.groups-1)+max(1, l.copySize(l.groups-1)))
	l.imageSize = int64(l.blocks * l.blockSize)
	return nil
}

// fill computes the layout of an image with a given size.
func (l *layout) fill(p *plan) error {
	l.imageSize = p.o.Size
	l.blocks = uint64(p.o.Size) / l.blockSize
	if l.blocks <= l.firstDataBlock+minLastGroup {
		return fmt.Errorf("an image of %d bytes is too small for a file system", p.o.Size)
	}
	l.groups = divUp(l.blocks-l.firstDataBlock, l.blocksPerGroup)
	if last := l.groups - 1; last > 0 && l.blocks-l.groupStart(last) < l.copySize(last)+minLastGroup {
		l.blocks = l.groupStart(last)
		l.groups--
	}
	l.limit = l.blocks
	used, most := uint64(p.lastInode()), l.groups*8*l.blockSize
	inodes := max(used, uint64(p.o.Inodes))
	if inodes > most {
		return fmt.Errorf("%d inodes are more than the %d that an image of %d bytes can have", inodes, most, p.o.Size)
	}
	if p.o.Inodes == 0 {
		inodes = min(most, used+uint64(p.o.Size)/bytesPerInode)
	}
	return l.place(p, inodes)
}

// place allocates the blocks for the current groups.
func (l *layout) place(p *plan, inodes uint64) error {
	// A group's inodes fill bytes of the bitmap and blocks of the table.
	l.inodesPerGroup = roundUp(divUp(inodes, l.groups), max(8, l.blockSize/defaultInodeSize))
	if l.inodesPerGroup*l.groups > math.MaxUint32 {
		return fmt.Errorf("%d inodes are more than ext4 can have", l.inodesPerGroup*l.groups)
	}
	if l.copySize(0) > l.blocksPerGroup/2 {
		return fmt.Errorf("%d block groups are too many for blocks of %d bytes, take larger ones", l.groups, l.blockSize)
	}
	l.next, l.gaps = l.firstDataBlock, nil
	if err := l.placeGroups(); err != nil {
		return fmt.Errorf("bitmaps and inode tables: %w", err)
	}
	return p.inOrder(func(n *node) error {
		if err := l.placeNode(n, p.ranges(n)); err != nil {
			return fmt.Errorf("%s: %w", n.path(), err)
		}
		return nil
	})
}

// placeGroups allocates the groups' bitmaps and inode tables.
func (l *layout) placeGroups() error {
	single := func(list *[]uint64) error {
		*list = make([]uint64, l.groups)
		for g := range *list {
			s, err := l.take(1)
			if err != nil {
				return err
			}
			(*list)[g] = s.start
		}
		return nil
	}
	if err := single(&l.blockBitmaps); err != nil {
		return err
	}
	if err := single(&l.inodeBitmaps); err != nil {
		return err
	}
	l.inodeTables = make([]uint64, l.groups)
	for g := range l.inodeTables {
		s, err := l.takeWhole(l.inodeTableBlocks())
		if err != nil {
			return err
		}
		l.inodeTables[g] = s.start
	}
	return nil
}

// placeNode allocates the blocks of an inode: its data, its extent tree, its attributes.
func (l *layout) placeNode(n *node, ranges []blockRange) error {
	n.extents = n.extents[:0]
	for _, r := range ranges {
		for first, left := r.first, r.count; left > 0; {
			s, err := l.take(min(left, extentMaxLen))
			if err != nil {
				return err
			}
			n.extents = append(n.extents, extent{Block: uint32(first), Len: uint32(s.count), Start: s.start})
			first += s.count
			left -= s.count
		}
	}
	n.treeBlocks = n.treeBlocks[:0]
	for range extentTreeBlocks(len(n.extents), int(l.blockSize)) {
		s, err := l.take(1)
		if err != nil {
			return err
		}
		n.treeBlocks = append(n.treeBlocks, s.start)
	}
	n.xattrBlock = 0
	if n.attrs != nil && len(n.attrs.inBlock) > 0 {
		s, err := l.take(1)
		if err != nil {
			return err
		}
		n.xattrBlock = s.start
	}
	return nil
}

// take allocates the next want blocks, or fewer up to the next copy of the superblock.
func (l *layout) take(want uint64) (span, error) {
	for {
		group := l.groupOf(l.next)
		if body := l.groupStart(group) + l.copySize(group); l.next < body {
			l.next = body
		}
		end := l.groupStart(group + 1)
		// A run may continue into groups without a copy.
		for want > end-l.next && l.copySize(l.groupOf(end)) == 0 {
			end = l.groupStart(l.groupOf(end) + 1)
		}
		if l.next == end {
			continue // into the next group
		}
		s := span{l.next, min(want, end-l.next)}
		if s.end() > l.limit {
			return span{}, errNoSpace
		}
		l.next = s.end()
		return s, nil
	}
}

// takeWhole allocates a run of want blocks.
func (l *layout) takeWhole(want uint64) (span, error) {
	for {
		s, err := l.take(want)
		if err != nil || s.count == want {
			return s, err
		}
		l.gaps = append(l.gaps, s)
	}
}

func (l *layout) groupStart(g uint64) uint64 { return l.firstDataBlock + g*l.blocksPerGroup }

func (l *layout) groupOf(block uint64) uint64 { return (block - l.firstDataBlock) / l.blocksPerGroup }

// groupBlocks is how many blocks a group has: the last may have fewer.
func (l *layout) groupBlocks(g uint64) uint64 {
	return min(l.blocksPerGroup, l.blocks-l.groupStart(g))
}

// descBlocks is how many blocks the group descriptors take.
func (l *layout) descBlocks() uint64 { return divUp(l.groups*groupDescSize64, l.blockSize) }

func (l *layout) inodeTableBlocks() uint64 {
	return divUp(l.inodesPerGroup*defaultInodeSize, l.blockSize)
}

func (l *layout) inodes() uint64 { return l.inodesPerGroup * l.groups }

// copySize is how many blocks at the start of a group hold the superblock and
// the descriptors, or a copy of them, and are reserved for more descriptors.
func (l *layout) copySize(g uint64) uint64 {
	if !hasSuperCopy(g) {
		return 0
	}
	return 1 + l.descBlocks() + l.reservedDescBlocks()
}

// hasSuperCopy reports whether a group has the superblock and descriptors, or
// a copy, under sparse_super: groups 0, 1 and the powers of 3, 5 and 7.
func hasSuperCopy(g uint64) bool {
	if g <= 1 {
		return true
	}
	for _, base := range [...]uint64{3, 5, 7} {
		n := base
		for n < g {
			n *= base
		}
		if n == g {
			return true
		}
	}
	return false
}

// bitmap fills b with a group's block bitmap and returns the number of free blocks. Bits of used
// and of nonexistent blocks are set.
func (l *layout) bitmap(g uint64, b []byte) (free uint64) {
	start, count := l.groupStart(g), l.groupBlocks(g)
	clear(b)
	used := uint64(0)
	if l.next > start {
		used = min(count, l.next-start)
	}
	used = max(used, l.copySize(g))
	setBits(b, 0, used)
	free = count - used
	for _, gap := range l.gaps {
		from, to := max(gap.start, start), min(gap.end(), start+count)
		if from < to {
			clearBits(b, from-start, to-start)
			free += to - from
		}
	}
	setBits(b, count, uint64(len(b))*8)
	return free
}

// freeBlocks is how many blocks are not in use.
func (l *layout) freeBlocks() uint64 {
	var free uint64
	for g := range l.groups {
		start, count := l.groupStart(g), l.groupBlocks(g)
		used := l.copySize(g)
		if l.next > start {
			used = max(used, min(count, l.next-start))
		}
		free += count - used
	}
	for _, gap := range l.gaps {
		free += gap.count
	}
	return free
}

// setBits sets the bits [from, to) of a bitmap.
func setBits(b []byte, from, to uint64) {
	for ; from < to && from%8 != 0; from++ {
		b[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0xFF
	}
	for ; from < to; from++ {
		b[from/8] |= 1 << (from % 8)
	}
}

func clearBits(b []byte, from, to uint64) {
	for ; from < to; from++ {
		b[from/8] &^= 1 << (from % 8)
	}
}

func divUp(n, by uint64) uint64 { return (n + by - 1) / by }

func roundUp(n, to uint64) uint64 { return divUp(n, to) * to }
