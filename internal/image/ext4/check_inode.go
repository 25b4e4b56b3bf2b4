package ext4

import (
	"bytes"
	"errors"
)

// checkInodes reads all inode tables.
func (c *checker) checkInodes() error {
	f := c.fs
	perBlock := uint32(f.blockSize / f.inodeSize)
	for group := range uint32(len(f.groups)) {
		if c.shared[group] {
			c.blocksUnknown, c.namesUnknown = true, true
			continue
		}
		count := f.tableInodes(group)
		for i := uint32(0); i < count; i += perBlock {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			b, err := f.readBlock(f.groups[group].InodeTable + uint64(i/perBlock))
			if err != nil {
				return err
			}
			first := group*f.sb.InodesPerGroup + i + 1
			for j := range min(perBlock, count-i) {
				raw := bytes.Clone(b[int(j)*f.inodeSize:][:f.inodeSize])
				if err := c.checkInode(f.decodeNode(first+j, raw)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkInode checks one inode by itself and claims its blocks.
func (c *checker) checkInode(nd *vnode) error {
	switch {
	case nd.number == inodeBadBlocks: // has no mode, and blocks all the same
		_, err := c.claimMap(nd)
		return err
	case nd.LinksCount == 0:
		return nil
	}
	c.inodes[nd.number] = &inodeUse{mode: nd.Mode, links: nd.LinksCount, flags: nd.Flags}
	if err := nd.verify(); err != nil {
		c.blocksUnknown = true
		return c.damaged(nd.number, err)
	}
	if nd.number == inodeResize && c.fs.sb.FeatureCompat&compatResizeInode != 0 {
		return c.claimResize(nd)
	}
	sectors, err := c.claimMap(nd)
	if err != nil {
		return err
	}
	if nd.isType(modeSymlink) {
		if _, err := nd.readlink(); err != nil {
			if err := c.damaged(nd.number, err); err != nil {
				return err
			}
		}
	}
	perBlock := uint64(c.fs.blockSize / inodeSectorSize)
	if nd.FileACL != 0 {
		sectors += perBlock
	}
	sectors += nd.xattrInodeBlocks() * perBlock
	if sectors != nd.sectors() && !c.blocksUnknown {
		if err := c.report(nd.number, "its size on disk is given as %d sectors, found %d", nd.sectors(), sectors); err != nil {
			return err
		}
	}
	return c.checkXattrs(nd)
}

// claimMap claims an inode's data blocks and the blocks of its map, and returns their size in
// sectors.
func (c *checker) claimMap(nd *vnode) (sectors uint64, err error) {
	if !nd.hasBlocks() && nd.number != inodeBadBlocks {
		return 0, nil
	}
	var blocks, lastWritten uint64
	var path []mapNode
	for n := uint64(0); n < fileBlocksEnd; {
		w, err := nd.windowAt(n)
		if err != nil {
			c.blocksUnknown = true
			return 0, c.damaged(nd.number, err)
		}
		sound, err := c.claimWindow(nd.number, w, path)
		if err != nil {
			return 0, err
		}
		if !sound { // a map that shares blocks with itself may be endless
			c.blocksUnknown = true
			return 0, nil
		}
		for i, at := range w.path {
			if i >= len(path) || path[i] != at {
				blocks++
			}
		}
		for _, s := range w.spans {
			if s.start != 0 {
				blocks += s.count
			}
			if !s.zero() {
				lastWritten = s.end()
			}
		}
		path, n = w.path, w.end()
	}
	if err := c.checkSize(nd, lastWritten); err != nil {
		return 0, err
	}
	return blocks * uint64(c.fs.blockSize/inodeSectorSize), nil
}

// claimWindow claims the blocks of one part of a map, except those of path, which the previous part
// shares. It stops at blocks that were claimed before.
func (c *checker) claimWindow(inode uint32, w *window, path []mapNode) (sound bool, err error) {
	for i, at := range w.path {
		if i < len(path) && path[i] == at {
			continue
		}
		if ok, err := c.claimFor(inode, "map of its blocks", at.block, 1); !ok {
			return false, err
		}
	}
	for _, s := range w.spans {
		if s.start == 0 {
			continue
		}
		if ok, err := c.claimFor(inode, "data", s.start, s.count); !ok {
			return false, err
		}
	}
	return true, nil
}

// checkSize compares an inode's size with the end of its last written block. A file may have
// unwritten blocks beyond its size, but no written ones.
func (c *checker) checkSize(nd *vnode, lastWritten uint64) error {
	blocks := divUp(nd.Size, uint64(c.fs.blockSize))
	if nd.number == inodeBadBlocks || lastWritten <= blocks {
		return nil
	}
	return c.report(nd.number, "its size is %d bytes, yet it has data in block %d", nd.Size, lastWritten-1)
}

// checkXattrs checks the inode's attributes and counts the uses of their
// block.
func (c *checker) checkXattrs(nd *vnode) error {
	if nd.FileACL != 0 {
		if c.xattrBlocks[nd.FileACL] == 0 {
			if _, err := c.claimFor(nd.number, "extended attributes", nd.FileACL, 1); err != nil {
				return err
			}
		}
		c.xattrBlocks[nd.FileACL]++
	}
	_, err := nd.xattrs()
	return c.damaged(nd.number, err)
}

// checkXattrBlocks compares the reference counts of attribute blocks with
// their uses.
func (c *checker) checkXattrBlocks() error {
	for _, n := range sortedKeys(c.xattrBlocks) {
		b, err := c.fs.readXattrBlock(n)
		if errors.Is(err, ErrCorrupt) {
			continue // reported for the inodes that use it
		}
		if err != nil {
			return err
		}
		var h xattrHeader
		h.decode(b)
		if uses := c.xattrBlocks[n]; h.Refcount != uses && !c.blocksUnknown {
			if err := c.report(0, "attribute block %d: reference count is %d, found %d", n, h.Refcount, uses); err != nil {
				return err
			}
		}
	}
	return nil
}
