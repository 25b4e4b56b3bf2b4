package ext4

import "sort"

// fileBlocksEnd is after the last possible block of a file: block numbers have 32 bits.
const fileBlocksEnd = 1 << 32

// mapSpan is a range of a file: count blocks from block first on, at block start of the image, or a
// hole if start is 0. Holes and unwritten spans read as zeros.
type mapSpan struct {
	first, count uint64
	start        uint64
	unwritten    bool
}

func (s mapSpan) end() uint64 { return s.first + s.count }

// zero reports whether the span reads as zeros.
func (s mapSpan) zero() bool { return s.start == 0 || s.unwritten }

// mapNode is a block of the image with a part of a file's map: an extent node or a block of
// pointers. The same block at another position of the file is another mapNode, which a valid file
// never has.
type mapNode struct {
	block uint64
	first uint64 // the first block of the file that the node covers
}

// window is the map of one part of a file: contiguous spans, and the blocks of the map that were
// read to find them.
type window struct {
	spans []mapSpan
	path  []mapNode
}

// end is the first block of the file after the window.
func (w *window) end() uint64 { return w.spans[len(w.spans)-1].end() }

// covers reports whether block n of the file is in the window.
func (w *window) covers(n uint64) bool {
	return len(w.spans) > 0 && w.spans[0].first <= n && n < w.end()
}

// at returns the span with block n, which the window covers.
func (w *window) at(n uint64) mapSpan {
	i := sort.Search(len(w.spans), func(i int) bool { return w.spans[i].end() > n })
	return w.spans[i]
}

// add appends blocks that follow the last span, joining the two if they also
// follow each other in the image.
func (w *window) add(s mapSpan) {
	if s.count == 0 {
		return
	}
	if len(w.spans) > 0 {
		last := &w.spans[len(w.spans)-1]
		follows := s.start == last.start+last.count
		if s.start == 0 || last.start == 0 {
			follows = s.start == last.start
		}
		if follows && s.unwritten == last.unwritten {
			last.count += s.count
			return
		}
	}
	w.spans = append(w.spans, s)
}

// windowAt reads the part of the inode's map that covers block n of the file.
// It never holds more than one leaf of the map.
func (nd *vnode) windowAt(n uint64) (*window, error) {
	var w *window
	var err error
	if nd.Flags&inodeFlagExtents != 0 {
		w, err = nd.extentWindow(n)
	} else {
		w, err = nd.pointerWindow(n)
	}
	if err != nil {
		return nil, wrapf(err, "inode %d: block %d", nd.number, n)
	}
	return w, nil
}

// extentWindow descends the extent tree to the leaf that covers block n. Each step goes one level
// down, so the descent always ends.
func (nd *vnode) extentWindow(n uint64) (*window, error) {
	w := &window{}
	b := nd.Block[:]
	first, end := uint64(0), uint64(fileBlocksEnd)
	var h extentHeader
	h.decode(b)
	if h.Depth > extentMaxDepth {
		return nil, corruptf("extent tree of depth %d", h.Depth)
	}
	for depth := h.Depth; ; depth-- {
		h.decode(b)
		if err := h.check(depth, len(b)); err != nil {
			return nil, err
		}
		if depth == 0 {
			return w, nd.addExtents(w, b, h.Entries, first, end)
		}
		child, err := findChild(b, h.Entries, n, &first, &end)
		if err != nil {
			return nil, err
		}
		if child == 0 { // before the first child
			w.add(mapSpan{first: first, count: end - first})
			return w, nil
		}
		w.path = append(w.path, mapNode{block: child, first: first})
		if b, err = nd.readExtentBlock(child); err != nil {
			return nil, err
		}
	}
}

// check verifies the header of a node at the given depth in size bytes.
func (h *extentHeader) check(depth uint16, size int) error {
	capacity := (size - extentHeaderSize) / extentEntrySize
	switch {
	case h.Magic != extentMagic:
		return corruptf("extent node has magic %#04x, not %#04x", h.Magic, extentMagic)
	case h.Depth != depth:
		return corruptf("extent node is of depth %d at depth %d", h.Depth, depth)
	case int(h.Max) > capacity || h.Max == 0:
		return corruptf("extent node has room for %d entries of %d", h.Max, capacity)
	case h.Entries > h.Max:
		return corruptf("extent node has %d entries of %d", h.Entries, h.Max)
	case h.Entries == 0 && h.Depth > 0:
		return corruptf("extent node is empty")
	}
	return nil
}

// findChild finds the index entry for block n in a node that covers the file from *first up to
// *end, and narrows the two to the range of the entry. It returns 0 if n is before all entries.
func findChild(b []byte, entries uint16, n uint64, first, end *uint64) (uint64, error) {
	lo, hi := *first, *end
	var child uint64
	previous := int64(-1)
	for i := range int(entries) {
		var x extentIdx
		x.decode(b[extentHeaderSize+i*extentEntrySize:])
		at := uint64(x.Block)
		if int64(at) <= previous || at < *first || at >= *end {
			return 0, corruptf("extent index entry for block %d is out of order", at)
		}
		previous = int64(at)
		if at > n {
			hi = min(hi, at)
			continue
		}
		if x.Leaf == 0 {
			return 0, corruptf("extent index entry for block %d points nowhere", at)
		}
		lo, child = at, x.Leaf
	}
	*first, *end = lo, hi
	return child, nil
}

// readExtentBlock reads a node of the extent tree outside the inode.
func (nd *vnode) readExtentBlock(n uint64) ([]byte, error) {
	b, err := nd.fs.readBlock(n)
	if err != nil || !nd.fs.hasCsum {
		return b, err
	}
	var h extentHeader
	h.decode(b)
	tail := extentTailOffset(h.Max)
	if tail+extentTailSize > len(b) {
		return nil, corruptf("extent node has room for %d entries", h.Max)
	}
	have, want := le.Uint32(b[tail:]), extentBlockChecksum(nd.seed, b, h.Max)
	if have != want {
		return nil, corruptf("checksum of extent node in block %d is %#08x, its bytes give %#08x", n, have, want)
	}
	return b, nil
}

// addExtents adds a leaf's extents, and the holes between them, to the window:
// all of the file from first up to end.
func (nd *vnode) addExtents(w *window, b []byte, entries uint16, first, end uint64) error {
	next := first
	for i := range int(entries) {
		var e extent
		e.decode(b[extentHeaderSize+i*extentEntrySize:])
		at := uint64(e.Block)
		if e.Len == 0 || at < next || at+uint64(e.Len) > end {
			return corruptf("extent of %d blocks at block %d is out of order", e.Len, at)
		}
		if err := nd.fs.checkBlocks(e.Start, uint64(e.Len)); err != nil {
			return err
		}
		w.add(mapSpan{first: next, count: at - next})
		w.add(mapSpan{first: at, count: uint64(e.Len), start: e.Start, unwritten: e.Unwritten})
		next = at + uint64(e.Len)
	}
	w.add(mapSpan{first: next, count: end - next})
	return nil
}

// Pointers in i_block of an inode without extents: twelve to data blocks, then one to a block of
// pointers, one to a doubly and one to a triply indirect block.
const (
	directPointers = 12
	pointerSize    = 4
)

// pointerWindow follows the block map of ext2 and ext3 to the pointers around
// block n.
func (nd *vnode) pointerWindow(n uint64) (*window, error) {
	w := &window{}
	if n < directPointers {
		return w, nd.addPointers(w, nd.Block[:directPointers*pointerSize], 0)
	}
	perBlock := uint64(nd.fs.blockSize / pointerSize)
	first, count := uint64(directPointers), perBlock
	for level := range 3 {
		if n < first+count {
			root := le.Uint32(nd.Block[(directPointers+level)*pointerSize:])
			return w, nd.followPointer(w, uint64(root), n, first, count)
		}
		first += count
		count *= perBlock
	}
	w.add(mapSpan{first: first, count: max(fileBlocksEnd, n+1) - first})
	return w, nil
}

// followPointer descends from a pointer that covers count blocks of the file
// from first on.
func (nd *vnode) followPointer(w *window, pointer, n, first, count uint64) error {
	perBlock := uint64(nd.fs.blockSize / pointerSize)
	for {
		if pointer == 0 {
			w.add(mapSpan{first: first, count: count})
			return nil
		}
		b, err := nd.fs.readBlock(pointer)
		if err != nil {
			return err
		}
		w.path = append(w.path, mapNode{block: pointer, first: first})
		count /= perBlock
		if count == 1 {
			return nd.addPointers(w, b, first)
		}
		i := (n - first) / count
		pointer = uint64(le.Uint32(b[i*pointerSize:]))
		first += i * count
	}
}

// addPointers adds the blocks that a run of pointers names to the window.
func (nd *vnode) addPointers(w *window, b []byte, first uint64) error {
	for i := 0; i < len(b); i += pointerSize {
		pointer := uint64(le.Uint32(b[i:]))
		if pointer != 0 {
			if err := nd.fs.checkBlocks(pointer, 1); err != nil {
				return err
			}
		}
		w.add(mapSpan{first: first + uint64(i/pointerSize), count: 1, start: pointer})
	}
	return nil
}

// spans calls fn for each span of the file's blocks up to end, holes included, in order. It counts
// blocks of the map and of data against budget: a file with more of them than the file system has
// blocks contains some of them twice.
func (nd *vnode) spans(end uint64, budget *blockBudget, fn func(mapSpan) error) error {
	for n := uint64(0); n < end; {
		w, err := nd.windowAt(n)
		if err != nil {
			return err
		}
		n = w.end()
		if err := budget.spend(uint64(len(w.path))); err != nil {
			return wrapf(err, "inode %d", nd.number)
		}
		for _, s := range w.spans {
			if s.first >= end {
				break
			}
			s.count = min(s.count, end-s.first)
			if s.start != 0 {
				if err := budget.spend(s.count); err != nil {
					return wrapf(err, "inode %d", nd.number)
				}
			}
			if err := fn(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// blockBudget limits walks over the blocks of many files. Index nodes are counted once for each
// leaf, so the budget allows for the deepest tree above each block.
type blockBudget struct{ left uint64 }

func (f *FS) newBlockBudget() *blockBudget {
	return &blockBudget{left: f.blocks * (extentMaxDepth + 1)}
}

func (b *blockBudget) spend(n uint64) error {
	if n > b.left {
		return corruptf("it maps blocks again and again: more than there are")
	}
	b.left -= n
	return nil
}
