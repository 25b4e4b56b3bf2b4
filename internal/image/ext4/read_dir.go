package ext4

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// dirent is one name in a directory.
type dirent struct {
	name     string
	inode    uint32
	fileType uint8
}

// directory is a directory's content without "." and "..".
type directory struct {
	self, parent uint32
	entries      []dirent // by name, in byte order
}

// lookup finds a name.
func (d *directory) lookup(name string) (dirent, bool) {
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return dirent{}, false
	}
	return d.entries[i], true
}

// dirCache caches directories, so that opening the files of a large directory does not read it each
// time. It is cleared when it has too many entries.
type dirCache struct {
	mu      sync.Mutex
	dirs    map[uint32]*directory
	entries int
}

// maxCachedEntries limits the cache to about ten megabytes.
const maxCachedEntries = 1 << 17

func (c *dirCache) get(number uint32) *directory {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirs[number]
}

func (c *dirCache) put(d *directory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs == nil || c.entries+len(d.entries) > maxCachedEntries {
		c.dirs, c.entries = map[uint32]*directory{}, 0
	}
	if _, ok := c.dirs[d.self]; !ok {
		c.dirs[d.self] = d
		c.entries += len(d.entries) + 1
	}
}

// directory reads the directory that was reached through parent. It checks that ".." is parent,
// that only "." and ".." refer to the root, and that a directory does not list a subdirectory
// twice. Therefore the reachable directories form a tree: a walk ends and visits each directory
// once.
func (f *FS) directory(number, parent uint32) (*directory, error) {
	d := f.dirs.get(number)
	if d == nil {
		nd, err := f.node(number)
		if err != nil {
			return nil, err
		}
		if d, err = nd.readDirectory(); err != nil {
			return nil, wrapf(err, "directory inode %d", number)
		}
		f.dirs.put(d)
	}
	if d.parent != parent {
		return nil, corruptf("directory inode %d is reached from %d, but its \"..\" is %d", number, parent, d.parent)
	}
	return d, nil
}

// readDirectory reads all entries, block after block. The index of a hashed directory is in blocks
// without entries.
func (nd *vnode) readDirectory() (*directory, error) {
	d := &directory{self: nd.number}
	err := nd.dirBlocks(func(n uint64, b []byte) error { return nd.addEntries(d, n, b) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(d.entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return d, nd.finishDirectory(d)
}

// dirBlocks calls fn with each block of a directory, its checksum verified.
func (nd *vnode) dirBlocks(fn func(n uint64, b []byte) error) error {
	if !nd.isType(modeDirectory) {
		return corruptf("inode %d is not a directory", nd.number)
	}
	blockSize := uint64(nd.fs.blockSize)
	count := nd.Size / blockSize
	if nd.Size == 0 || nd.Size%blockSize != 0 || count > nd.fs.blocks {
		return corruptf("directory of %d bytes", nd.Size)
	}
	c := newContent(nd)
	seen := map[uint64]bool{} // a small image could otherwise hold an endless directory
	for n := range count {
		s, err := c.spanAt(n)
		if err != nil {
			return err
		}
		if s.zero() {
			return corruptf("block %d is a hole", n)
		}
		at := s.start + n - s.first
		if seen[at] {
			return corruptf("block %d is one that stood before it", n)
		}
		seen[at] = true
		b, err := nd.fs.readBlock(at)
		if err != nil {
			return err
		}
		if err := nd.verifyDirBlock(n, b); err != nil {
			return wrapf(err, "block %d", n)
		}
		if err := fn(n, b); err != nil {
			return wrapf(err, "block %d", n)
		}
	}
	return nil
}

// isIndexed reports whether the directory has a hash index.
func (nd *vnode) isIndexed() bool {
	return nd.Flags&inodeFlagIndex != 0 && nd.fs.sb.FeatureCompat&compatDirIndex != 0
}

// isIndexBlock reports whether block n of the directory is part of its index:
// the first, or one with a single unused entry over all of it.
func (nd *vnode) isIndexBlock(n uint64, b []byte) bool {
	if !nd.isIndexed() {
		return false
	}
	var d direntHeader
	d.decode(b, len(b))
	return n == 0 || d.Inode == 0 && int(d.RecLen) == len(b)
}

// verifyDirBlock verifies the checksum of a directory's block n.
func (nd *vnode) verifyDirBlock(n uint64, b []byte) error {
	if !nd.fs.hasCsum {
		return nil
	}
	var have, want uint32
	if nd.isIndexBlock(n, b) {
		x, err := nd.decodeIndexBlock(n, b)
		if err != nil {
			return err
		}
		have, want = le.Uint32(b[x.tail()+4:]), dxBlockChecksum(nd.seed, b, x.countOffset, x.limit, x.count)
	} else {
		tail := b[len(b)-direntTailSize:]
		if !isDirentTail(tail) {
			return corruptf("it has no checksum")
		}
		have, want = le.Uint32(tail[8:]), dirBlockChecksum(nd.seed, b)
	}
	if have != want {
		return corruptf("checksum is %#08x, its bytes give %#08x", have, want)
	}
	return nil
}

// entriesEnd returns the offset at which a block's entries end.
func (nd *vnode) entriesEnd(n uint64, b []byte) int {
	if nd.fs.hasCsum && !nd.isIndexBlock(n, b) {
		return len(b) - direntTailSize
	}
	return len(b)
}

// rawEntry is an unchecked entry of a directory block.
type rawEntry struct {
	direntHeader
	name []byte
}

// blockEntries calls fn with each entry of the first end bytes of a directory block, including
// unused ones. Each is at least as long as a header, so the loop ends.
func (f *FS) blockEntries(b []byte, end int, fn func(off int, e rawEntry) error) error {
	for off := 0; off < end; {
		if end-off < direntHeaderSize {
			return corruptf("entry at %d runs over the end", off)
		}
		var e rawEntry
		e.decode(b[off:], f.blockSize)
		length := int(e.RecLen)
		if length < direntLen(1) || length%direntAlign != 0 || length > end-off || direntLen(int(e.NameLen)) > length {
			return corruptf("entry at %d has length %d with a name of %d", off, length, e.NameLen)
		}
		e.name = b[off+direntHeaderSize:][:e.NameLen]
		if err := fn(off, e); err != nil {
			return err
		}
		off += length
	}
	return nil
}

// addEntries adds the names in a block to the directory.
func (nd *vnode) addEntries(d *directory, n uint64, b []byte) error {
	position := 0
	return nd.fs.blockEntries(b, nd.entriesEnd(n, b), func(off int, e rawEntry) error {
		position++
		if n == 0 && position <= 2 {
			return d.setDot(position, e)
		}
		if e.Inode == 0 {
			return nil
		}
		if err := nd.fs.checkEntry(e); err != nil {
			return wrapf(err, "entry at %d", off)
		}
		d.entries = append(d.entries, dirent{name: string(e.name), inode: e.Inode, fileType: e.FileType})
		return nil
	})
}

// setDot checks the first two entries, which are "." and "..".
func (d *directory) setDot(position int, e rawEntry) error {
	want := ".."[:position]
	if e.Inode == 0 || string(e.name) != want {
		return corruptf("entry %d is %q, not %q", position, e.name, want)
	}
	if position == 2 {
		d.parent = e.Inode
		return nil
	}
	if e.Inode != d.self {
		return corruptf("\".\" is inode %d", e.Inode)
	}
	return nil
}

// checkEntry verifies an entry that is in use and neither "." nor "..".
func (f *FS) checkEntry(e rawEntry) error {
	if len(e.name) == 0 || string(e.name) == "." || string(e.name) == ".." || bytes.ContainsAny(e.name, "/\x00") {
		return corruptf("name %q", e.name)
	}
	if e.Inode > f.sb.InodesCount || e.Inode != inodeRoot && e.Inode < f.firstInode() {
		return corruptf("%q is inode %d", e.name, e.Inode)
	}
	if e.Inode == inodeRoot {
		return corruptf("%q is the root directory", e.name)
	}
	if f.sb.FeatureIncompat&incompatFiletype == 0 && e.FileType != 0 { // the name's length has 16 bits then
		return corruptf("%q: name longer than %d", e.name, maxNameLen)
	}
	if e.FileType > fileTypeSymlink {
		return corruptf("%q is of type %d", e.name, e.FileType)
	}
	return nil
}

// finishDirectory looks up the types that entries lack and checks that no name and no directory
// appears twice.
func (nd *vnode) finishDirectory(d *directory) error {
	if d.parent == 0 || d.parent > nd.fs.sb.InodesCount {
		return corruptf("\"..\" is inode %d", d.parent)
	}
	directories := map[uint32]bool{}
	for i := range d.entries {
		e := &d.entries[i]
		if i > 0 && d.entries[i-1].name == e.name {
			return corruptf("name %q appears twice", e.name)
		}
		if e.fileType == fileTypeUnknown {
			child, err := nd.fs.node(e.inode)
			if err != nil {
				return wrapf(err, "%q", e.name)
			}
			e.fileType = fileTypeOf(child.Mode)
		}
		if e.fileType == fileTypeDirectory {
			if directories[e.inode] {
				return corruptf("directory inode %d appears twice, once as %q", e.inode, e.name)
			}
			directories[e.inode] = true
		}
	}
	return nil
}

// child reads the inode of an entry and checks its type.
func (f *FS) child(e dirent) (*vnode, error) {
	nd, err := f.node(e.inode)
	if err != nil {
		return nil, err
	}
	if fileTypeOf(nd.Mode) != e.fileType {
		return nil, corruptf("inode %d has mode %#o, its entry says type %d", e.inode, nd.Mode, e.fileType)
	}
	if nd.Flags&inodeFlagEAInode != 0 {
		return nil, corruptf("inode %d holds an extended attribute, yet has a name", e.inode)
	}
	return nd, nil
}
