package ext4

// readGroups reads and verifies the group descriptors. It stops at the first invalid descriptor, so
// that memory grows only with the real content of the image.
func (f *FS) readGroups() error {
	count := f.groupCount()
	for first := uint64(0); first < count; first += uint64(f.descsPerBlock) {
		table := uint32(first / uint64(f.descsPerBlock))
		b, err := f.readBlock(f.descBlock(table))
		if err != nil {
			return wrapf(err, "group descriptor block %d", table)
		}
		for i := uint64(0); i < uint64(f.descsPerBlock) && first+i < count; i++ {
			raw := b[i*uint64(f.descSize):][:f.descSize]
			var g groupDesc
			g.decode(raw)
			if err := f.checkGroup(uint32(first+i), &g, raw); err != nil {
				return wrapf(err, "group %d", first+i)
			}
			f.groups = append(f.groups, g)
		}
	}
	return nil
}

// checkGroup verifies a descriptor's checksum and its block numbers.
func (f *FS) checkGroup(number uint32, g *groupDesc, raw []byte) error {
	want := g.Checksum
	switch {
	case f.hasCsum:
		want = groupDescChecksum(f.seed, number, raw)
	case f.sb.FeatureROCompat&roCompatGDTCsum != 0:
		want = groupDescCRC16(f.sb.UUID, number, raw)
	}
	if g.Checksum != want {
		return corruptf("descriptor checksum is %#04x, its bytes give %#04x", g.Checksum, want)
	}
	for _, area := range []struct {
		name     string
		start, n uint64
	}{
		{"block bitmap", g.BlockBitmap, 1},
		{"inode bitmap", g.InodeBitmap, 1},
		{"inode table", g.InodeTable, f.tableBlocks},
	} {
		if err := f.checkBlocks(area.start, area.n); err != nil {
			return wrapf(err, "%s", area.name)
		}
	}
	return nil
}

// descBlock returns the position of block number table of the descriptors: after the superblock, or
// with meta_bg at the start of the groups that it describes.
func (f *FS) descBlock(table uint32) uint64 {
	if f.sb.FeatureIncompat&incompatMetaBG == 0 || table < f.sb.FirstMetaBG {
		return uint64(f.sb.FirstDataBlock) + 1 + uint64(table)
	}
	return f.metaDescBlock(table * f.descsPerBlock)
}

// metaDescBlock returns the position of a group's meta_bg descriptor block.
func (f *FS) metaDescBlock(group uint32) uint64 {
	n := f.groupStart(group)
	if f.hasSuperblock(group) {
		n++
	}
	return n
}

// groupStart is the first block of a group.
func (f *FS) groupStart(group uint32) uint64 {
	return uint64(f.sb.FirstDataBlock) + uint64(group)*uint64(f.sb.BlocksPerGroup)
}

// groupBlocks is the number of blocks in a group.
func (f *FS) groupBlocks(group uint32) uint32 {
	return uint32(min(uint64(f.sb.BlocksPerGroup), f.blocks-f.groupStart(group)))
}

// hasSuperblock reports whether a group begins with a copy of the superblock.
func (f *FS) hasSuperblock(group uint32) bool {
	switch {
	case group == 0:
		return true
	case f.sb.FeatureCompat&compatSparseSuper2 != 0:
		return group == f.sb.BackupBGs[0] || group == f.sb.BackupBGs[1]
	case f.sb.FeatureROCompat&roCompatSparseSuper != 0:
		return group == 1 || isPower(group, 3) || isPower(group, 5) || isPower(group, 7)
	}
	return true
}

// isPower reports whether n is base to the power of one or more.
func isPower(n, base uint32) bool {
	p := uint64(base)
	for p < uint64(n) {
		p *= uint64(base)
	}
	return p == uint64(n)
}
