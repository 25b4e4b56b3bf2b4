package ext4

import (
	"errors"
	"sort"
)

// Maximum levels of index nodes between the root of a hashed directory and its leaves: for every
// kernel, and with large_dir.
const (
	dxLevelsSmall = 1
	dxLevelsMax   = 2
)

// A dirPlan is a directory's entries and their arrangement in blocks: one
// block, or a hash tree. The tree's root is block 0; then come its index
// nodes, level by level from the root down, then the leaves, full from left
// to right.
type dirPlan struct {
	blockSize int
	seed      [4]uint32  // of the hash
	entries   []dirEntry // without "." and ".."
	leaves    []dirLeaf  // nil without a hash tree
	nodes     []int      // index nodes by level, from the root down
	empty     int        // additional empty blocks
}

// A dirEntry is a name in a directory.
type dirEntry struct {
	name        string
	hash, minor uint32
	node        *node
}

// A dirLeaf is a block of a hashed directory: entries from first up to end, with hashes of at least
// hash.
type dirLeaf struct {
	first, end int
	hash       uint32
}

func newDirPlan(o Options, entries int) *dirPlan {
	return &dirPlan{blockSize: o.BlockSize, seed: o.hashSeed(), entries: make([]dirEntry, 0, entries)}
}

func (d *dirPlan) add(name string, n *node) {
	d.entries = append(d.entries, dirEntry{name: name, node: n})
}

// room returns the space for entries in a block, in bytes.
func (d *dirPlan) room() int { return d.blockSize - direntTailSize }

// dotsLen is the length of "." and "..".
func dotsLen() int { return direntLen(1) + direntLen(2) }

// arrange assigns entries to blocks after all are added.
func (d *dirPlan) arrange() error {
	total := dotsLen()
	for _, e := range d.entries {
		total += direntLen(len(e.name))
	}
	if total <= d.room() {
		return nil
	}
	d.sortByHash()
	d.fillLeaves()
	// From the leaves up, until the root can list the level.
	for below := len(d.leaves); below > d.rootLimit(); below = d.nodes[0] {
		d.nodes = append([]int{int(divUp(uint64(below), uint64(d.nodeLimit())))}, d.nodes...)
	}
	if d.levels() > dxLevelsMax {
		return errors.New("more entries than a directory can have")
	}
	return nil
}

func (d *dirPlan) sortByHash() {
	for i := range d.entries {
		e := &d.entries[i]
		e.hash, e.minor, _ = dirHash(e.name, hashHalfMD4, d.seed)
	}
	sort.Slice(d.entries, func(i, j int) bool {
		a, b := &d.entries[i], &d.entries[j]
		if a.hash != b.hash {
			return a.hash < b.hash
		}
		if a.minor != b.minor {
			return a.minor < b.minor
		}
		return a.name < b.name
	})
}

func (d *dirPlan) fillLeaves() {
	leaf, used := dirLeaf{}, 0
	for i, e := range d.entries {
		size := direntLen(len(e.name))
		if used+size > d.room() {
			d.leaves = append(d.leaves, leaf)
			leaf, used = dirLeaf{first: i, hash: e.hash}, 0
			if d.entries[i-1].hash == e.hash {
				leaf.hash |= 1 // names with this hash begin in the previous leaf
			}
		}
		leaf.end = i + 1
		used += size
	}
	d.leaves = append(d.leaves, leaf)
}

// rootLimit returns how many index entries fit into the root, after "." and "..", its dx_root_info,
// and before the tail.
func (d *dirPlan) rootLimit() int {
	return (d.blockSize - dxRootCountOffset - dxTailSize) / dxEntrySize
}

// nodeLimit returns how many index entries fit into an index node.
func (d *dirPlan) nodeLimit() int {
	return (d.blockSize - dxNodeCountOffset - dxTailSize) / dxEntrySize
}

// levels is how many levels of index nodes the hash tree has.
func (d *dirPlan) levels() int { return len(d.nodes) }

func (d *dirPlan) hashed() bool { return d.leaves != nil }

// reserve adds empty blocks until the directory has at least size bytes.
func (d *dirPlan) reserve(size int) {
	d.empty = max(0, size/d.blockSize-d.blocks())
}

// blocks is how many blocks the directory has.
func (d *dirPlan) blocks() int {
	n := 1 + d.empty + len(d.leaves)
	for _, level := range d.nodes {
		n += level
	}
	return n
}

// encode calls emit with the directory's blocks in order. dir is its inode, iseed the initial value
// of their checksums.
func (d *dirPlan) encode(dir *node, iseed uint32, emit func(block []byte) error) error {
	w := dirBlockWriter{plan: d, iseed: iseed, block: make([]byte, d.blockSize), emit: emit}
	if !d.hashed() {
		w.begin()
		w.dots(dir)
		if err := w.finishLeaf(d.entries); err != nil {
			return err
		}
		for range d.empty {
			w.begin()
			if err := w.finishLeaf(nil); err != nil {
				return err
			}
		}
		return nil
	}
	if err := w.index(dir); err != nil {
		return err
	}
	for _, leaf := range d.leaves {
		w.begin()
		if err := w.finishLeaf(d.entries[leaf.first:leaf.end]); err != nil {
			return err
		}
	}
	return nil
}

// A dirBlockWriter makes directory blocks one at a time.
type dirBlockWriter struct {
	plan  *dirPlan
	iseed uint32
	block []byte
	used  int
	emit  func([]byte) error
}

func (w *dirBlockWriter) begin() {
	clear(w.block)
	w.used = 0
}

// entry adds an entry of recLen bytes.
func (w *dirBlockWriter) entry(name string, n *node, recLen int) {
	h := direntHeader{RecLen: uint32(recLen), NameLen: uint8(len(name))}
	if n != nil {
		h.Inode, h.FileType = n.ino, fileTypeOf(uint16(n.in.Mode))
	}
	h.encode(w.block[w.used:], len(w.block))
	copy(w.block[w.used+direntHeaderSize:], name)
	w.used += recLen
}

// dots adds "." and "..".
func (w *dirBlockWriter) dots(dir *node) {
	parent := dir
	if dir.parent != nil {
		parent = dir.parent
	}
	w.entry(".", dir, direntLen(1))
	w.entry("..", parent, direntLen(2))
}

// finishLeaf adds entries, extends the last one to the tail (or adds an unused one if there are
// none), and emits the block.
func (w *dirBlockWriter) finishLeaf(entries []dirEntry) error {
	last := 0
	if w.used > 0 { // ".." after "."
		last = direntLen(1)
	}
	for _, e := range entries {
		last = w.used
		w.entry(e.name, e.node, direntLen(len(e.name)))
	}
	room := w.plan.room()
	if w.used == 0 {
		w.entry("", nil, room)
	} else {
		le.PutUint16(w.block[last+4:], encodeRecLen(uint32(room-last), len(w.block)))
	}
	encodeDirentTail(w.block[room:], dirBlockChecksum(w.iseed, w.block))
	return w.emit(w.block)
}

// index emits the root of the hash tree and its index nodes.
func (w *dirBlockWriter) index(dir *node) error {
	levels := w.indexLevels()
	w.begin()
	w.dots(dir)
	le.PutUint16(w.block[direntLen(1)+4:], encodeRecLen(uint32(len(w.block)-direntLen(1)), len(w.block)))
	info := dxRootInfo{HashVersion: hashHalfMD4, InfoLength: dxRootInfoLen, IndirectLevels: uint8(w.plan.levels())}
	info.encode(w.block[dxRootInfoOffset:])
	if err := w.finishIndex(dxRootCountOffset, w.plan.rootLimit(), levels[0]); err != nil {
		return err
	}
	for _, entries := range levels[1:] {
		for len(entries) > 0 {
			n := min(len(entries), w.plan.nodeLimit())
			w.begin()
			w.entry("", nil, len(w.block))
			if err := w.finishIndex(dxNodeCountOffset, w.plan.nodeLimit(), entries[:n]); err != nil {
				return err
			}
			entries = entries[n:]
		}
	}
	return nil
}

// indexLevels lists the index entries of each level, the root's first.
func (w *dirBlockWriter) indexLevels() [][]dxEntry {
	d := w.plan
	start := d.blocks() - len(d.leaves)
	entries := make([]dxEntry, len(d.leaves))
	for i, leaf := range d.leaves {
		entries[i] = dxEntry{Hash: leaf.hash, Block: uint32(start + i)}
	}
	levels := [][]dxEntry{entries}
	for level := len(d.nodes) - 1; level >= 0; level-- {
		start -= d.nodes[level]
		above := make([]dxEntry, d.nodes[level])
		for i := range above {
			above[i] = dxEntry{Hash: levels[0][i*d.nodeLimit()].Hash, Block: uint32(start + i)}
		}
		levels = append([][]dxEntry{above}, levels...)
	}
	return levels
}

// finishIndex adds the index entries at countOffset, with limit and count in
// the place of the first's hash, and emits the block.
func (w *dirBlockWriter) finishIndex(countOffset, limit int, entries []dxEntry) error {
	for i, e := range entries {
		e.encode(w.block[countOffset+i*dxEntrySize:])
	}
	le.PutUint16(w.block[countOffset:], uint16(limit))
	le.PutUint16(w.block[countOffset+2:], uint16(len(entries)))
	tail := countOffset + limit*dxEntrySize
	sum := dxBlockChecksum(w.iseed, w.block, countOffset, uint16(limit), uint16(len(entries)))
	le.PutUint32(w.block[tail+4:], sum)
	return w.emit(w.block)
}
