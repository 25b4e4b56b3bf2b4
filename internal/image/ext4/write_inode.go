package ext4

import (
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// encodeInode encodes a node's record of the inode table, with attributes and checksum.
func (w *imageWriter) encodeInode(n *node, b []byte) error {
	mtime := timestampOf(n.in.ModTime)
	in := inode{
		Mode:       uint16(n.in.Mode),
		UID:        n.in.UID,
		GID:        n.in.GID,
		Size:       uint64(n.size),
		Atime:      mtime,
		Ctime:      mtime,
		Mtime:      mtime,
		Crtime:     mtime,
		LinksCount: uint16(n.links),
		Blocks:     n.allocatedBlocks() * uint64(w.p.o.BlockSize) / inodeSectorSize,
		FileACL:    n.xattrBlock,
		ExtraIsize: inodeExtraSize,
	}
	if n.links > linkMax {
		in.LinksCount = 1
	}
	iseed := inodeSeed(w.seed, n.ino, in.Generation)
	switch {
	case n == w.p.resize:
		var blocks uint64
		in.Block, blocks = w.encodeResize(n)
		in.Blocks = blocks * uint64(w.p.o.BlockSize) / inodeSectorSize
	case n.in.IsDevice():
		in.encodeDevice(n.in.Major, n.in.Minor)
	case n.in.IsSymlink() && len(n.extents) == 0:
		copy(in.Block[:], n.in.Target)
	case n.in.IsSymlink() || n.in.IsRegular() || n.in.IsDir():
		in.Flags = inodeFlagExtents
		if n.dir != nil && n.dir.hashed() {
			in.Flags |= inodeFlagIndex
		}
		var err error
		if in.Block, err = encodeExtentTree(n, w.p.o.BlockSize, iseed, nil); err != nil {
			return err
		}
	}
	in.encode(b)
	n.attrs.encodeInInode(b[goodOldInodeSize+inodeExtraSize:])
	in.Checksum = inodeChecksum(iseed, b)
	in.encode(b)
	return nil
}

// allocatedBlocks is how many blocks belong to the inode.
func (n *node) allocatedBlocks() uint64 {
	blocks := uint64(len(n.treeBlocks))
	for _, e := range n.extents {
		blocks += uint64(e.Len)
	}
	if n.xattrBlock != 0 {
		blocks++
	}
	return blocks
}

// content returns the content of the node's blocks, unless it is a directory.
func (n *node) content() tree.Content {
	if n.in.IsSymlink() {
		return tree.Bytes([]byte(n.in.Target))
	}
	return n.in.Content
}
