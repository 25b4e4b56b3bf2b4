package ext4

import (
	"errors"
)

// checkDirectories walks all directories from the root and counts names.
func (c *checker) checkDirectories() error {
	if use := c.inodes[inodeRoot]; use == nil || use.mode&modeTypeMask != modeDirectory {
		c.namesUnknown = true
		return c.report(inodeRoot, "the root directory is missing")
	}
	type step struct{ number, parent uint32 }
	for queue := []step{{inodeRoot, inodeRoot}}; len(queue) > 0; queue = queue[1:] {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		at := queue[0]
		d, err := c.readChecked(at.number)
		if err != nil {
			return err
		}
		if d == nil {
			c.namesUnknown = true
			continue
		}
		if d.parent != at.parent {
			if err := c.report(at.number, "\"..\" is inode %d, but it stands in %d", d.parent, at.parent); err != nil {
				return err
			}
		}
		c.inodes[at.number].refs++ // "."
		if parent := c.inodes[d.parent]; parent != nil {
			parent.refs++
		}
		for _, e := range d.entries {
			descend, err := c.countName(d, e)
			if err != nil {
				return err
			}
			if descend {
				queue = append(queue, step{e.inode, at.number})
			}
		}
	}
	return nil
}

// readChecked reads a directory and its index. It reports damage and then returns nil.
func (c *checker) readChecked(number uint32) (*directory, error) {
	nd, err := c.fs.node(number)
	if err != nil { // reported with the inode, unless it is a read error
		if errors.Is(err, ErrCorrupt) {
			err = nil
		}
		return nil, err
	}
	d, err := nd.readDirectory()
	if err != nil {
		return nil, c.damaged(number, err)
	}
	if nd.isIndexed() {
		if err := c.damaged(number, nd.verifyIndex()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// countName counts one name and reports whether it is the first name of a directory.
func (c *checker) countName(d *directory, e dirent) (descend bool, err error) {
	use := c.inodes[e.inode]
	if use == nil {
		return false, c.report(d.self, "%q is inode %d, which is not in use", e.name, e.inode)
	}
	use.refs++
	if use.name == "" {
		use.name, use.parent = e.name, d.self
	}
	if fileTypeOf(use.mode) != e.fileType {
		return false, c.report(d.self, "%q is of type %d, its inode %d of mode %#o", e.name, e.fileType, e.inode, use.mode)
	}
	if use.flags&inodeFlagEAInode != 0 {
		return false, c.report(d.self, "%q names inode %d, which holds an extended attribute", e.name, e.inode)
	}
	if e.fileType != fileTypeDirectory {
		return false, nil
	}
	if use.visited || e.inode == inodeRoot {
		return false, c.report(e.inode, "the directory has a second name, %q in inode %d", e.name, d.self)
	}
	use.visited = true
	return true, nil
}

// hashRange is the range of the hashes of the names in one block of a hashed directory.
type hashRange struct {
	lowest, highest uint32
	names           int
}

// dxBlockMask selects the block number in a dx_entry's block field; the kernel reserves the other
// bits.
const dxBlockMask = 1<<28 - 1

// indexCheck follows the hash index of a directory.
type indexCheck struct {
	nodes  map[uint64]*indexBlock // by block of the directory
	leaves map[uint64]hashRange
	seen   map[uint64]bool
}

// verifyIndex checks a directory's hash index: it must refer to each block once, and each name must
// be in the block of its hash.
func (nd *vnode) verifyIndex() error {
	var err error
	for _, unsigned := range nd.fs.hashSigns() {
		if err = nd.verifyIndexAs(unsigned); err == nil {
			return nil
		}
	}
	return err
}

// hashSigns returns the possible signedness of chars in hashed names, true for unsigned. A file
// system without the flag uses that of the machine that created it.
func (f *FS) hashSigns() []bool {
	switch f.sb.Flags & (flagSignedHash | flagUnsignedHash) {
	case flagSignedHash:
		return []bool{false}
	case flagUnsignedHash:
		return []bool{true}
	}
	return []bool{false, true}
}

func (nd *vnode) verifyIndexAs(unsigned bool) error {
	x := &indexCheck{nodes: map[uint64]*indexBlock{}, leaves: map[uint64]hashRange{}, seen: map[uint64]bool{0: true}}
	var info dxRootInfo
	err := nd.dirBlocks(func(n uint64, b []byte) (err error) {
		if n == 0 {
			if info, err = nd.decodeRoot(b); err != nil {
				return err
			}
			if unsigned {
				info.HashVersion += unsignedHashDelta
			}
		}
		if nd.isIndexBlock(n, b) {
			x.nodes[n], err = nd.decodeIndexBlock(n, b)
			return err
		}
		x.leaves[n], err = nd.hashBlock(n, b, info.HashVersion)
		return err
	})
	if err != nil {
		return err
	}
	if err := x.follow(0, int(info.IndirectLevels), 0, ^uint32(0)); err != nil {
		return err
	}
	if blocks := len(x.nodes) + len(x.leaves); len(x.seen) != blocks {
		return corruptf("hash index leads to %d of the directory's %d blocks", len(x.seen), blocks)
	}
	return nil
}

// hashBlock hashes the names in a block.
func (nd *vnode) hashBlock(n uint64, b []byte, version uint8) (hashRange, error) {
	var r hashRange
	err := nd.fs.blockEntries(b, nd.entriesEnd(n, b), func(_ int, e rawEntry) error {
		if e.Inode == 0 {
			return nil
		}
		hash, _, _ := dirHash(string(e.name), version, nd.fs.sb.HashSeed)
		if r.names == 0 {
			r.lowest, r.highest = hash, hash
		}
		r.lowest, r.highest = min(r.lowest, hash), max(r.highest, hash)
		r.names++
		return nil
	})
	return r, err
}

// follow checks the index block n, which has levels more index levels below
// it and covers hashes from lowest to highest.
func (x *indexCheck) follow(n uint64, levels int, lowest, highest uint32) error {
	block, ok := x.nodes[n]
	if !ok {
		return corruptf("hash index leads to block %d, which is none of it", n)
	}
	for i, e := range block.entries {
		from, to := max(e.Hash, lowest), highest
		if i > 0 && (e.Hash < block.entries[i-1].Hash || e.Hash < lowest) {
			return corruptf("hash index block %d is out of order", n)
		}
		if i+1 < len(block.entries) {
			to = lastHash(block.entries[i+1].Hash)
		}
		child := uint64(e.Block & dxBlockMask)
		if x.seen[child] {
			return corruptf("hash index leads to block %d twice", child)
		}
		x.seen[child] = true
		if levels > 0 {
			if err := x.follow(child, levels-1, from, to); err != nil {
				return err
			}
			continue
		}
		leaf, ok := x.leaves[child]
		if !ok {
			return corruptf("hash index leads to block %d, which holds no entries", child)
		}
		if leaf.names > 0 && (leaf.lowest < from&^1 || leaf.highest > to) {
			return corruptf("block %d has names with hashes from %#08x to %#08x, its index says %#08x to %#08x",
				child, leaf.lowest, leaf.highest, from, to)
		}
	}
	return nil
}

// lastHash returns the highest hash in the block before an index entry with the hash next. The
// lowest bit of next says that the previous block also has names with that hash.
func lastHash(next uint32) uint32 {
	if next&1 != 0 || next == 0 {
		return next &^ 1
	}
	return next - 1
}
