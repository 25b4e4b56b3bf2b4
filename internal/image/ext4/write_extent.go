package ext4

// extentNodeMax returns how many entries fit into a block of an extent tree, with its header and
// its checksum.
func extentNodeMax(blockSize int) int {
	return (blockSize - extentHeaderSize - extentTailSize) / extentEntrySize
}

// extentTreeBlocks returns how many blocks the tree of n extents needs, without its root in the
// inode.
func extentTreeBlocks(n, blockSize int) int {
	blocks := 0
	for n > extentRootMax {
		n = int(divUp(uint64(n), uint64(extentNodeMax(blockSize))))
		blocks += n
	}
	return blocks
}

// encodeExtentTree makes the tree of a node's extents. emit, unless nil, is called with the content
// of each of the treeBlocks. The result is the root.
func encodeExtentTree(n *node, blockSize int, iseed uint32, emit func(at uint64, block []byte) error) (root [inodeBlockSize]byte, err error) {
	blocks := n.treeBlocks
	entries := make([][extentEntrySize]byte, len(n.extents))
	for i := range n.extents {
		n.extents[i].encode(entries[i][:])
	}
	var buf []byte // few trees have nodes outside of the inode
	depth := 0
	for ; len(entries) > extentRootMax; depth++ {
		var above [][extentEntrySize]byte
		for len(entries) > 0 {
			count := min(len(entries), extentNodeMax(blockSize))
			// Leaf and index entries both begin with the file's block.
			idx := extentIdx{Block: le.Uint32(entries[0][:]), Leaf: blocks[0]}
			var e [extentEntrySize]byte
			idx.encode(e[:])
			above = append(above, e)
			if emit != nil {
				if buf == nil {
					buf = make([]byte, blockSize)
				}
				clear(buf)
				encodeExtentNode(buf, depth, extentNodeMax(blockSize), entries[:count])
				le.PutUint32(buf[extentTailOffset(uint16(extentNodeMax(blockSize))):],
					extentBlockChecksum(iseed, buf, uint16(extentNodeMax(blockSize))))
				if err := emit(blocks[0], buf); err != nil {
					return root, err
				}
			}
			blocks, entries = blocks[1:], entries[count:]
		}
		entries = above
	}
	encodeExtentNode(root[:], depth, extentRootMax, entries)
	return root, nil
}

// encodeExtentNode writes a node's header and entries.
func encodeExtentNode(b []byte, depth, maxEntries int, entries [][extentEntrySize]byte) {
	h := extentHeader{Magic: extentMagic, Entries: uint16(len(entries)), Max: uint16(maxEntries), Depth: uint16(depth)}
	h.encode(b)
	for i := range entries {
		copy(b[extentHeaderSize+i*extentEntrySize:], entries[i][:])
	}
}
