package ext4

// claimResize claims what the resize inode owns, one block, and checks its map: pointers to the
// reserved descriptor blocks behind the primary descriptors, and in each of these pointers to the
// blocks with the same place in the groups with copies, in order. The kernel enlarges no file
// system where they are others (fs/ext4/resize.c, verify_reserved_gdb).
func (c *checker) claimResize(nd *vnode) error {
	f := c.fs
	at := le.Uint32(nd.Block[resizeDouble*pointerSize:])
	if at == 0 {
		return c.report(nd.number, "the resize inode has no map of the blocks reserved for growth")
	}
	if ok, err := c.claimFor(nd.number, "block of pointers", uint64(at), 1); !ok {
		return err
	}
	double, err := f.readBlock(uint64(at))
	if err != nil {
		return err
	}
	copies := f.copyGroups()
	first := divUp(uint64(len(f.groups)), uint64(f.descsPerBlock))
	pointers := uint64(f.blockSize / pointerSize)
	for i := first; i < first+uint64(f.sb.ReservedGDTBlocks); i++ {
		want := uint64(f.sb.FirstDataBlock) + 1 + i
		if got := le.Uint32(double[i%pointers*pointerSize:]); uint64(got) != want {
			return c.report(nd.number, "reserved descriptor block %d is given as block %d, and is %d", i, got, want)
		}
		if want >= f.blocks {
			return c.report(nd.number, "reserved descriptor block %d lies outside the file system", i)
		}
		b, err := f.readBlock(want)
		if err != nil {
			return err
		}
		for j, g := range copies {
			want := want + uint64(g)*uint64(f.sb.BlocksPerGroup)
			if uint64(j) >= pointers {
				break
			}
			if got := le.Uint32(b[j*pointerSize:]); uint64(got) != want {
				return c.report(nd.number, "the copy of reserved descriptor block %d in group %d is given as block %d, and is %d", i, g, got, want)
			}
		}
	}
	sectors := (1 + uint64(f.sb.ReservedGDTBlocks)*uint64(1+len(copies))) * uint64(f.blockSize/inodeSectorSize)
	if nd.sectors() != sectors {
		return c.report(nd.number, "its size on disk is given as %d sectors, found %d", nd.sectors(), sectors)
	}
	return nil
}

// copyGroups lists the groups with a copy of the superblock, but for group 0.
func (f *FS) copyGroups() (groups []uint32) {
	for g := uint32(1); g < uint32(len(f.groups)); g++ {
		if f.hasSuperblock(g) {
			groups = append(groups, g)
		}
	}
	return groups
}
