package ext4

// writeBitmaps writes all groups' bitmaps and returns the descriptors. Zero bitmaps are not written
// to a new file. Those of groups without inodes and of uninitialised groups are marked as absent.
func (w *imageWriter) writeBitmaps() ([]groupDesc, error) {
	l := w.l
	descs := make([]groupDesc, l.groups)
	bitmap := make([]byte, l.blockSize)
	for g := range l.groups {
		d := &descs[g]
		d.BlockBitmap, d.InodeBitmap, d.InodeTable = l.blockBitmaps[g], l.inodeBitmaps[g], l.inodeTables[g]
		if !w.p.o.Device {
			d.Flags = groupInodeZeroed
		}
		if l.untouched(g) {
			d.Flags |= groupBlockUninit
			d.FreeBlocksCount = uint32(l.groupBlocks(g) - l.copySize(g))
			continue
		}
		free := l.bitmap(g, bitmap)
		d.FreeBlocksCount = uint32(free)
		d.BlockBitmapChecksum = bitmapChecksum(w.seed, bitmap[:l.blocksPerGroup/8])
		if free < 8*l.blockSize || w.p.o.Device {
			if err := w.out.write(d.BlockBitmap, bitmap); err != nil {
				return nil, err
			}
		}
	}
	for g := range l.groups {
		d := &descs[g]
		used := l.usedInodes(g, w.p)
		d.FreeInodesCount = uint32(l.inodesPerGroup - used)
		d.ItableUnused = d.FreeInodesCount
		if used == 0 {
			d.Flags |= groupInodeUninit
			continue
		}
		clear(bitmap)
		setBits(bitmap, 0, used)
		setBits(bitmap, l.inodesPerGroup, uint64(len(bitmap))*8)
		d.InodeBitmapChecksum = bitmapChecksum(w.seed, bitmap[:l.inodesPerGroup/8])
		if err := w.out.write(d.InodeBitmap, bitmap); err != nil {
			return nil, err
		}
	}
	descs[0].UsedDirsCount = 1 // the root
	for _, n := range w.p.nodes {
		if n.in.IsDir() {
			descs[uint64(n.ino-1)/l.inodesPerGroup].UsedDirsCount++
		}
	}
	return descs, nil
}

// usedInodes is how many inodes of a group are in use: the first ones.
func (l *layout) usedInodes(g uint64, p *plan) uint64 {
	before, last := g*l.inodesPerGroup, uint64(p.lastInode())
	if last <= before {
		return 0
	}
	return min(l.inodesPerGroup, last-before)
}

// writeInodeTables writes the part of the inode tables that is in use; the
// rest is zero already, or on a device marked as not zeroed.
func (w *imageWriter) writeInodeTables() error {
	perBlock := w.l.blockSize / defaultInodeSize
	for g := range w.l.groups {
		used := w.l.usedInodes(g, w.p)
		for i := uint64(0); i < used; i += perBlock {
			b, err := w.out.next(w.l.inodeTables[g]+i/perBlock, 1)
			if err != nil {
				return err
			}
			clear(b)
			for slot := range min(perBlock, used-i) {
				n := w.p.byNumber(uint32(g*w.l.inodesPerGroup + i + slot + 1))
				if n == nil { // reserved
					continue
				}
				if err := w.encodeInode(n, b[slot*defaultInodeSize:][:defaultInodeSize]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// encodeDescriptors gives the blocks of the group descriptors.
func (w *imageWriter) encodeDescriptors(descs []groupDesc) []byte {
	b := make([]byte, w.l.descBlocks()*w.l.blockSize)
	for g := range descs {
		record := b[g*groupDescSize64:][:groupDescSize64]
		descs[g].encode(record)
		descs[g].Checksum = groupDescChecksum(w.seed, uint32(g), record)
		descs[g].encode(record)
	}
	return b
}
