package ext4

import "math/bits"

// hasGroupCsum reports whether descriptors have checksums. Without them, their flags and their
// count of unused inodes are invalid.
func (f *FS) hasGroupCsum() bool {
	return f.hasCsum || f.sb.FeatureROCompat&roCompatGDTCsum != 0
}

// groupFlag reports whether a group has one of the groupXxx flags.
func (f *FS) groupFlag(group uint32, flag uint16) bool {
	return f.hasGroupCsum() && f.groups[group].Flags&flag != 0
}

// tableInodes returns how many inodes at the start of a group's table can be in use.
func (f *FS) tableInodes(group uint32) uint32 {
	if f.groupFlag(group, groupInodeUninit) {
		return 0
	}
	if !f.hasGroupCsum() {
		return f.sb.InodesPerGroup
	}
	return f.sb.InodesPerGroup - min(f.sb.InodesPerGroup, f.groups[group].ItableUnused)
}

// claim marks blocks as used and reports how many of them were already, and
// the first of those. The blocks are in the file system.
func (c *checker) claim(start, n uint64) (taken, first uint64) {
	f := c.fs
	for b := start; b < start+n; b++ {
		index := b - uint64(f.sb.FirstDataBlock)
		group, bit := index/uint64(f.sb.BlocksPerGroup), index%uint64(f.sb.BlocksPerGroup)
		if c.used[group] == nil {
			c.used[group] = make([]byte, f.sb.BlocksPerGroup/8)
		}
		mask := byte(1) << (bit % 8)
		if c.used[group][bit/8]&mask != 0 {
			if taken == 0 {
				first = b
			}
			taken++
		}
		c.used[group][bit/8] |= mask
	}
	return taken, first
}

// claimFor claims blocks for an inode, or for metadata as inode 0.
func (c *checker) claimFor(inode uint32, what string, start, n uint64) (ok bool, err error) {
	if err := c.fs.checkBlocks(start, n); err != nil {
		return false, c.report(inode, "%s: %v", what, err)
	}
	taken, first := c.claim(start, n)
	if taken == 0 {
		return true, nil
	}
	return false, c.report(inode, "%s: %d of blocks %d+%d, from %d on, are claimed by something else too", what, taken, start, n, first)
}

// claimGroups claims the metadata of all groups and verifies copies of the superblock.
func (c *checker) claimGroups() error {
	f := c.fs
	for group := range uint32(len(f.groups)) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.claimHead(group); err != nil {
			return err
		}
		g := &f.groups[group]
		for _, area := range []struct {
			what     string
			start, n uint64
		}{{"block bitmap", g.BlockBitmap, 1}, {"inode bitmap", g.InodeBitmap, 1}, {"inode table", g.InodeTable, f.tableBlocks}} {
			ok, err := c.claimFor(0, area.what, area.start, area.n)
			if err != nil {
				return err
			}
			if !ok && area.start == g.InodeTable {
				c.shared[group] = true
			}
		}
	}
	if f.sb.FeatureIncompat&incompatMMP != 0 && f.sb.MMPBlock != 0 {
		if _, err := c.claimFor(0, "multiple mount protection", f.sb.MMPBlock, 1); err != nil {
			return err
		}
	}
	for group, used := range c.used {
		for _, b := range used {
			c.metadata[group] += uint32(bits.OnesCount8(b))
		}
	}
	return nil
}

// claimHead claims the copies of superblock and descriptors at a group's
// head. They fit, as the group's blocks are cut to the file system's.
func (c *checker) claimHead(group uint32) error {
	f := c.fs
	start, room := f.groupStart(group), uint64(f.groupBlocks(group))
	tables := divUp(uint64(len(f.groups)), uint64(f.descsPerBlock))
	oldTables := tables + uint64(f.sb.ReservedGDTBlocks)
	table := group / f.descsPerBlock
	metaBG := f.sb.FeatureIncompat&incompatMetaBG != 0
	if metaBG {
		oldTables = uint64(f.sb.FirstMetaBG)
	}
	var n uint64
	if f.hasSuperblock(group) {
		n = 1
		if !metaBG || table < f.sb.FirstMetaBG {
			n += oldTables
		}
	}
	if metaBG && table >= f.sb.FirstMetaBG {
		if i := group % f.descsPerBlock; i <= 1 || i == f.descsPerBlock-1 {
			n++
		}
	}
	c.claim(start, min(n, room))
	if group == 0 || !f.hasSuperblock(group) {
		return nil
	}
	return c.damaged(0, wrapCopy(group, f.verifyCopy(group)))
}

// wrapCopy names the copy that an error is about.
func wrapCopy(group uint32, err error) error {
	if err == nil {
		return nil
	}
	return wrapf(err, "superblock copy in group %d", group)
}

// verifyCopy verifies a copy of the superblock. Its counts may be out of date, but not its sizes
// and checksums.
func (f *FS) verifyCopy(group uint32) error {
	b := make([]byte, superblockSize)
	if err := f.readAt(b, f.blockOffset(f.groupStart(group))); err != nil {
		return err
	}
	var sb superblock
	if err := sb.decode(b); err != nil {
		return err
	}
	switch {
	case sb.Magic != superblockMagic:
		return corruptf("magic is %#04x, not %#04x", sb.Magic, superblockMagic)
	case sb.hasMetadataCsum() && sb.Checksum != superblockChecksum(b):
		return corruptf("checksum is %#08x, its bytes give %#08x", sb.Checksum, superblockChecksum(b))
	case sb.blocksCount() != f.blocks || sb.LogBlockSize != f.sb.LogBlockSize || sb.UUID != f.sb.UUID:
		return corruptf("it describes another file system")
	}
	return nil
}

// bitmapCheck is one bitmap and its expected content.
type bitmapCheck struct {
	what     string // "block" or "inode"
	group    uint32
	at       uint64 // its block number
	count    uint32 // number of valid bits; the rest is padding, which is set
	first    uint64 // number of the block or inode of the first bit
	used     []byte // nil: nothing
	checksum uint32 // as the descriptor says
	covered  uint32 // bits that the checksum covers
	uninit   bool   // not written to the image
	metadata uint32 // bits that are set in an uninitialised bitmap: the group's metadata
	unknown  bool   // set bits without a known use may be correct
}

// checkBitmaps compares bitmaps and counts of all groups with the use found.
func (c *checker) checkBitmaps() error {
	f := c.fs
	inodesUsed := c.inodeBitmaps()
	for group := range uint32(len(f.groups)) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		g := &f.groups[group]
		blocks := bitmapCheck{
			what: "block", group: group, at: g.BlockBitmap, count: f.groupBlocks(group), first: f.groupStart(group),
			used: c.used[group], checksum: g.BlockBitmapChecksum, covered: f.sb.BlocksPerGroup,
			uninit: f.groupFlag(group, groupBlockUninit), metadata: c.metadata[group], unknown: c.blocksUnknown,
		}
		inodes := bitmapCheck{
			what: "inode", group: group, at: g.InodeBitmap, count: f.sb.InodesPerGroup,
			first: uint64(group)*uint64(f.sb.InodesPerGroup) + 1,
			used:  inodesUsed[group], checksum: g.InodeBitmapChecksum, covered: f.sb.InodesPerGroup,
			uninit: f.groupFlag(group, groupInodeUninit), unknown: c.blocksUnknown,
		}
		for _, b := range []*bitmapCheck{&blocks, &inodes} {
			if err := c.checkBitmap(b); err != nil {
				return err
			}
		}
		if err := c.checkCounts(group, &blocks, &inodes); err != nil {
			return err
		}
	}
	return nil
}

// inodeBitmaps returns the expected inode bitmaps. Reserved inodes always count as used.
func (c *checker) inodeBitmaps() [][]byte {
	f := c.fs
	bitmaps := make([][]byte, len(f.groups))
	set := func(number uint32) {
		group, bit := (number-1)/f.sb.InodesPerGroup, (number-1)%f.sb.InodesPerGroup
		if bitmaps[group] == nil {
			bitmaps[group] = make([]byte, f.sb.InodesPerGroup/8)
		}
		bitmaps[group][bit/8] |= 1 << (bit % 8)
	}
	for number := uint32(1); number < f.firstInode() && number <= f.sb.InodesCount; number++ {
		set(number)
	}
	for number := range c.inodes {
		set(number)
	}
	return bitmaps
}

// checkBitmap compares one bitmap with its expected content.
func (c *checker) checkBitmap(m *bitmapCheck) error {
	if m.uninit {
		if m.free() != m.count-m.metadata {
			return c.report(0, "%s bitmap of group %d: marked as never written, yet the group is in use", m.what, m.group)
		}
		return nil
	}
	b, err := c.fs.readBlock(m.at)
	if err != nil {
		return err
	}
	if err := c.checkBitmapSum(m, b); err != nil {
		return err
	}
	var lost, leaked, firstLost, firstLeaked uint64
	for i := range m.count {
		inUse, marked := m.isUsed(i), b[i/8]>>(i%8)&1 != 0
		switch {
		case inUse && !marked:
			if lost++; lost == 1 {
				firstLost = m.first + uint64(i)
			}
		case !inUse && marked && !m.unknown:
			if leaked++; leaked == 1 {
				firstLeaked = m.first + uint64(i)
			}
		}
	}
	if lost > 0 {
		if err := c.report(0, "%s bitmap of group %d: %d in use are marked free, from %d on", m.what, m.group, lost, firstLost); err != nil {
			return err
		}
	}
	if leaked > 0 {
		if err := c.report(0, "%s bitmap of group %d: %d marked used are not, from %d on", m.what, m.group, leaked, firstLeaked); err != nil {
			return err
		}
	}
	for i := int(m.count); i < len(b)*8; i++ {
		if b[i/8]>>(i%8)&1 == 0 {
			return c.report(0, "%s bitmap of group %d: padding at its end is not set", m.what, m.group)
		}
	}
	return nil
}

// checkBitmapSum verifies a bitmap's checksum.
func (c *checker) checkBitmapSum(m *bitmapCheck, b []byte) error {
	if !c.fs.hasCsum {
		return nil
	}
	sum := bitmapChecksum(c.fs.seed, b[:m.covered/8])
	if c.fs.descSize < groupDescSize64 {
		sum &= 0xFFFF
	}
	if sum == m.checksum {
		return nil
	}
	return c.report(0, "%s bitmap of group %d: checksum is %#08x, its bytes give %#08x", m.what, m.group, m.checksum, sum)
}

func (m *bitmapCheck) isUsed(i uint32) bool { return m.used != nil && m.used[i/8]>>(i%8)&1 != 0 }

// free returns the number of unused blocks or inodes.
func (m *bitmapCheck) free() uint32 {
	free := m.count
	for _, b := range m.used {
		free -= uint32(bits.OnesCount8(b))
	}
	return free
}

// checkCounts compares a descriptor's counts with the bitmaps.
func (c *checker) checkCounts(group uint32, blocks, inodes *bitmapCheck) error {
	if c.blocksUnknown {
		return nil
	}
	f := c.fs
	g := &f.groups[group]
	directories := uint32(0)
	for i := range inodes.count {
		if use := c.inodes[uint32(inodes.first)+i]; inodes.isUsed(i) && use != nil && use.mode&modeTypeMask == modeDirectory {
			directories++
		}
	}
	for _, count := range []struct {
		what       string
		says, real uint32
	}{
		{"free blocks", g.FreeBlocksCount, blocks.free()},
		{"free inodes", g.FreeInodesCount, inodes.free()},
		{"directories", g.UsedDirsCount, directories},
	} {
		if count.says == count.real {
			continue
		}
		if err := c.report(0, "group %d: %s are counted as %d, found %d", group, count.what, count.says, count.real); err != nil {
			return err
		}
	}
	return nil
}

// checkTotals compares the superblock's counts with those of the groups.
func (c *checker) checkTotals() error {
	var blocks, inodes uint64
	for i := range c.fs.groups {
		blocks += uint64(c.fs.groups[i].FreeBlocksCount)
		inodes += uint64(c.fs.groups[i].FreeInodesCount)
	}
	sb := &c.fs.sb
	if free := sb.freeBlocksCount(); free != blocks {
		if err := c.report(0, "superblock: free blocks are counted as %d, groups have %d", free, blocks); err != nil {
			return err
		}
	}
	if uint64(sb.FreeInodesCount) != inodes {
		return c.report(0, "superblock: free inodes are counted as %d, groups have %d", sb.FreeInodesCount, inodes)
	}
	return nil
}
