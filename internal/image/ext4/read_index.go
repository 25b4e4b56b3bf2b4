package ext4

// indexBlock is the index in one block of a hashed directory.
type indexBlock struct {
	countOffset  int
	limit, count uint16
	entries      []dxEntry // count entries; the first has the hash of the parent's entry
}

// tail returns the offset of the block's struct dx_tail, with metadata_csum.
func (x *indexBlock) tail() int { return x.countOffset + int(x.limit)*dxEntrySize }

// decodeIndexBlock reads the index of block n: a dx_root in the first block of
// the directory, a dx_node in others.
func (nd *vnode) decodeIndexBlock(n uint64, b []byte) (*indexBlock, error) {
	x := &indexBlock{countOffset: dxNodeCountOffset}
	if n == 0 {
		x.countOffset = dxRootCountOffset
	}
	x.limit = le.Uint16(b[x.countOffset:])
	x.count = le.Uint16(b[x.countOffset+2:])
	room := len(b) - x.countOffset
	if nd.fs.hasCsum {
		room -= dxTailSize
	}
	if int(x.limit) != room/dxEntrySize {
		return nil, corruptf("index block has room for %d entries, not %d", x.limit, room/dxEntrySize)
	}
	if x.count == 0 || x.count > x.limit {
		return nil, corruptf("index block has %d entries of %d", x.count, x.limit)
	}
	x.entries = make([]dxEntry, x.count)
	for i := range x.entries {
		x.entries[i].decode(b[x.countOffset+i*dxEntrySize:])
	}
	x.entries[0].Hash = 0 // limit and count are in its place
	return x, nil
}

// decodeRoot reads and checks the dx_root_info in the first block.
func (nd *vnode) decodeRoot(b []byte) (dxRootInfo, error) {
	var info dxRootInfo
	info.decode(b[dxRootInfoOffset:])
	maxLevels := uint8(1)
	if nd.fs.sb.FeatureIncompat&incompatLargedir != 0 {
		maxLevels = 2
	}
	switch {
	case info.InfoLength != dxRootInfoLen:
		return info, corruptf("index root information of %d bytes", info.InfoLength)
	case info.HashVersion > hashTEA:
		return info, corruptf("index hash version %d", info.HashVersion)
	case info.IndirectLevels > maxLevels:
		return info, corruptf("index of %d levels", info.IndirectLevels)
	case info.UnusedFlags != 0:
		return info, corruptf("index flags %#x", info.UnusedFlags)
	}
	return info, nil
}
