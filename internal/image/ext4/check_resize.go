package ext4

// claimResize claims the one block of the resize inode and checks its map. The map points to the
// reserved descriptor blocks after the primary descriptors; each of these points to the blocks with
// the same position in the groups with copies, in order. Otherwise the kernel does not enlarge the
// file system (fs/ext4/resize.c, verify_reserved_gdb).
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

// copyGroups lists the groups with a copy of the superblock, except group 0.
func (f *FS) copyGroups() (groups []uint32) {
	for g := uint32(1); g < uint32(len(f.groups)); g++ {
		if f.hasSuperblock(g) {
			groups = append(groups, g)
		}
	}
	return groups
}
