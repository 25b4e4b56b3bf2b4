package ext4

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// Tree returns the whole file system as a tree. The tree reads contents from the image on use.
// Holes and hard links are kept. Of the times it has only mtime. More than 256 MiB of extended
// attributes are an error.
func (f *FS) Tree() (*tree.Tree, error) {
	return f.treeWith(maxTreeXattrs)
}

// treeWith is Tree with a bound on the bytes of extended attributes.
func (f *FS) treeWith(xattrs int) (*tree.Tree, error) {
	b := &treeBuilder{fs: f, tree: tree.New(), budget: f.newBlockBudget(), xattrs: xattrs, linked: map[uint32]string{}}
	root, err := f.node(inodeRoot)
	if err != nil {
		return nil, pathError("tree", ".", err)
	}
	if err := b.fill(b.tree.Root(), root); err != nil {
		return nil, pathError("tree", ".", err)
	}
	if err := b.addDirectory(".", inodeRoot, inodeRoot); err != nil {
		return nil, err
	}
	return b.tree, nil
}

// treeBuilder makes a tree of a file system.
type treeBuilder struct {
	fs     *FS
	tree   *tree.Tree
	budget *blockBudget
	xattrs int               // remaining bytes for names and values of attributes
	linked map[uint32]string // first name of inodes with several
}

// maxDepth is the maximum depth of directories in a tree. The memory for paths grows with its
// square.
const maxDepth = 4096

// maxTreeXattrs limits the attributes that a tree holds in memory, in bytes: inodes may share them
// in the image, so a small image can have any number. A million files with labels have 60 MB.
const maxTreeXattrs = 256 << 20

// addDirectory adds what is below the directory at p.
func (b *treeBuilder) addDirectory(p string, number, parent uint32) error {
	if strings.Count(p, "/") > maxDepth {
		return pathError("tree", p[:64]+"...", fmt.Errorf("directories nest deeper than %d", maxDepth))
	}
	dir, err := b.fs.directory(number, parent)
	if err != nil {
		return pathError("tree", p, err)
	}
	for _, e := range dir.entries {
		name := e.name
		if p != "." {
			name = p + "/" + e.name
		}
		if err := b.addEntry(name, e); err != nil {
			return pathError("tree", name, err)
		}
		if e.fileType != fileTypeDirectory {
			continue
		}
		if err := b.addDirectory(name, e.inode, number); err != nil {
			return err
		}
	}
	return nil
}

// addEntry adds one name.
func (b *treeBuilder) addEntry(name string, e dirent) error {
	if first, ok := b.linked[e.inode]; ok {
		return b.tree.Link(first, name)
	}
	nd, err := b.fs.child(e)
	if err != nil {
		return err
	}
	n := &tree.Inode{}
	if err := b.fill(n, nd); err != nil {
		return err
	}
	if nd.LinksCount > 1 && !nd.isType(modeDirectory) {
		b.linked[e.inode] = name
	}
	return b.tree.Put(name, n)
}

// fill sets the fields of a tree's inode, except entries.
func (b *treeBuilder) fill(n *tree.Inode, nd *vnode) error {
	attrs, err := nd.xattrs()
	if err != nil {
		return err
	}
	for name, value := range attrs {
		b.xattrs -= len(name) + len(value)
	}
	if b.xattrs < 0 {
		return fmt.Errorf("extended attributes take more than the %d MiB there is room for", maxTreeXattrs>>20)
	}
	if len(attrs) > 0 {
		n.Xattrs = attrs
	}
	n.Mode, n.UID, n.GID, n.ModTime = uint32(nd.Mode), nd.UID, nd.GID, nd.Mtime.time()
	switch nd.Mode & modeTypeMask {
	case modeSymlink:
		n.Target, err = nd.readlink()
	case modeChar, modeBlock:
		n.Major, n.Minor = nd.decodeDevice()
	case modeRegular:
		n.Content, err = b.content(nd)
	}
	return err
}

// content returns the content of a file, as ranges of the image.
func (b *treeBuilder) content(nd *vnode) (tree.Content, error) {
	c := tree.Content{Size: int64(nd.Size)}
	blockSize := int64(b.fs.blockSize)
	end := divUp(nd.Size, uint64(blockSize))
	err := nd.spans(end, b.budget, func(s mapSpan) error {
		if s.zero() {
			return nil
		}
		offset := int64(s.first) * blockSize
		c.Extents = append(c.Extents, tree.Extent{
			Offset: offset, Length: min(int64(s.count)*blockSize, c.Size-offset),
			Source: b.fs.r, SourceOffset: b.fs.blockOffset(s.start),
		})
		return nil
	})
	return c, err
}
