package ext4

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// linkMax is the maximum number of names of a file (EXT4_LINK_MAX). A directory with more links has
// a link count of 1 (dir_nlink).
const linkMax = 65000

// Largest numbers of a device, as Linux encodes them.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// maxFileBlocks is how many blocks of a file can be numbered.
const maxFileBlocks = 1<<32 - 1

// lostAndFoundName is the directory for e2fsck's unnamed inodes, lostAndFoundSize its preallocated
// size, as with mke2fs.
const (
	lostAndFoundName = "lost+found"
	lostAndFoundSize = 16 << 10
)

// A plan is a tree as numbered inodes, with the space that each needs.
type plan struct {
	o     Options
	nodes []*node // by inode number, from firstInode on
	root  *node
	// journal and resize, the inode with the blocks reserved for growth, may be nil. They are not
	// part of the tree.
	journal  *node
	resize   *node
	linked   map[*tree.Inode]*node // files with several names
	largeDir bool                  // some directory has an index of three levels
}

// A node is an inode of a plan.
type node struct {
	in     *tree.Inode
	parent *node  // directory of its first name
	name   string // first name, in parent
	ino    uint32
	links  uint32 // names; for a directory including "." and the ".." of its subdirectories

	size  int64      // i_size
	dir   *dirPlan   // of a directory
	attrs *xattrPlan // nil if there are none

	// Its blocks, set by the layout.
	extents    []extent
	treeBlocks []uint64 // of the extent tree, if it does not fit in the inode
	xattrBlock uint64
}

// A blockRange is a run of blocks of a file.
type blockRange struct{ first, count uint64 }

func (n *node) path() string {
	if n.parent == nil {
		return n.name
	}
	if n.parent.parent == nil {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

// newPlan numbers the tree's inodes, parents first and names in byte order.
func newPlan(t *tree.Tree, o Options) (*plan, error) {
	p := &plan{o: o, linked: make(map[*tree.Inode]*node)}
	p.root = &node{in: t.Root(), name: ".", ino: inodeRoot, links: 2}
	if err := p.measure(p.root); err != nil {
		return nil, fmt.Errorf("%s: %w", p.root.path(), err)
	}
	if o.Journal > 0 {
		p.planJournal()
	}
	if o.GrowTo > 0 {
		p.planResize()
	}
	lost, err := p.planLostAndFound(t.Root())
	if err != nil {
		return nil, err
	}
	if err := p.fill(p.root, lost); err != nil {
		return nil, err
	}
	return p, nil
}

// planLostAndFound adds the node of the lost+found directory, before all others so that it has the
// customary number. It returns nil if the image does not have or need the directory.
func (p *plan) planLostAndFound(root *tree.Inode) (*node, error) {
	in, ok := root.Entry(lostAndFoundName)
	if ok && !in.IsDir() || !ok && !p.o.writable() {
		return nil, nil
	}
	if ok {
		return p.newNode(p.root, lostAndFoundName, in)
	}
	n, err := p.newNode(p.root, lostAndFoundName, &tree.Inode{Mode: tree.S_IFDIR | 0o700, ModTime: p.o.ModTime})
	if err != nil {
		return nil, err
	}
	n.dir = newDirPlan(p.o, 0)
	if err := n.dir.arrange(); err != nil {
		return nil, err
	}
	n.dir.reserve(lostAndFoundSize)
	n.setDirSize()
	return n, nil
}

// fill plans the contents of a directory. For the root, lost is the node of lost+found; otherwise
// it is nil.
func (p *plan) fill(dir, lost *node) error {
	dir.dir = newDirPlan(p.o, dir.in.Len())
	if lost != nil && lost.dir != nil { // it is not in the tree
		dir.dir.add(lostAndFoundName, lost)
		dir.links++
	}
	for _, e := range dir.in.Entries() {
		child := p.linked[e.Inode]
		switch {
		case lost != nil && e.Inode == lost.in:
			child = lost
		case child == nil:
			var err error
			if child, err = p.newNode(dir, e.Name, e.Inode); err != nil {
				return err
			}
		default:
			if err := checkName(e.Name); err != nil {
				return fmt.Errorf("%s: another name in %s: %w", child.path(), dir.path(), err)
			}
		}
		dir.dir.add(e.Name, child)
		if !e.Inode.IsDir() {
			if child.links++; child.links > linkMax {
				return fmt.Errorf("%s: the file has more than the %d names that ext4 can count", child.path(), linkMax)
			}
			continue
		}
		dir.links++
		if err := p.fill(child, nil); err != nil {
			return err
		}
	}
	return p.finishDir(dir)
}

// finishDir assigns a directory's blocks after all its entries are added.
func (p *plan) finishDir(dir *node) error {
	if err := dir.dir.arrange(); err != nil {
		return fmt.Errorf("%s: %w", dir.path(), err)
	}
	p.largeDir = p.largeDir || dir.dir.levels() > dxLevelsSmall
	dir.setDirSize()
	return nil
}

func (n *node) setDirSize() {
	blocks := n.dir.blocks()
	n.size = int64(blocks) * int64(n.dir.blockSize)
}

// newNode gives an inode the next number.
func (p *plan) newNode(parent *node, name string, in *tree.Inode) (*node, error) {
	n := &node{in: in, parent: parent, name: name, ino: p.lastInode() + 1}
	if in.IsDir() {
		n.links = 2
	} else if in.Nlink() > 1 {
		p.linked[in] = n
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("%s: %w", n.path(), err)
	}
	if err := p.measure(n); err != nil {
		return nil, fmt.Errorf("%s: %w", n.path(), err)
	}
	p.nodes = append(p.nodes, n)
	return n, nil
}

// lastInode is the highest inode number in use.
func (p *plan) lastInode() uint32 { return firstInode - 1 + uint32(len(p.nodes)) }

func checkName(name string) error {
	if len(name) > maxNameLen {
		return fmt.Errorf("the name has %d bytes, more than the %d of ext4", len(name), maxNameLen)
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be a name", name)
	}
	return nil
}

// measure computes the space of an inode, except a directory's blocks.
func (p *plan) measure(n *node) error {
	in := n.in
	var err error
	if n.attrs, err = planXattrs(in, p.o.BlockSize); err != nil {
		return err
	}
	switch in.Type() {
	case tree.S_IFDIR, tree.S_IFIFO, tree.S_IFSOCK:
		return nil
	case tree.S_IFCHR, tree.S_IFBLK:
		if in.Major > maxMajor || in.Minor > maxMinor {
			return fmt.Errorf("device %d:%d is above %d:%d, the highest that Linux has", in.Major, in.Minor, maxMajor, maxMinor)
		}
		return nil
	case tree.S_IFLNK:
		return n.measureSymlink(p.o.BlockSize)
	case tree.S_IFREG:
		return n.measureFile(int64(p.o.BlockSize))
	}
	return fmt.Errorf("mode %#o has no file type", in.Mode)
}

func (n *node) measureSymlink(blockSize int) error {
	target := n.in.Target
	limit := min(maxSymlinkLen, blockSize-1) // the kernel needs a NUL after it
	switch {
	case target == "":
		return errors.New("the symbolic link has no target")
	case strings.Contains(target, "\x00"):
		return fmt.Errorf("target %q of the symbolic link has a NUL byte", target)
	case len(target) > limit:
		return fmt.Errorf("the symbolic link's target has %d bytes, more than the %d there is room for", len(target), limit)
	}
	n.size = int64(len(target))
	return nil
}

func (n *node) measureFile(blockSize int64) error {
	c := n.in.Content
	if err := c.Validate(); err != nil {
		return err
	}
	if (c.Size+blockSize-1)/blockSize > maxFileBlocks {
		return fmt.Errorf("%d bytes are more than a file can have with blocks of %d", c.Size, blockSize)
	}
	n.size = c.Size
	return nil
}

// ranges lists the runs of an inode's blocks that have data, in order. They are computed on demand:
// storing them would take more memory than the rest of a node.
func (p *plan) ranges(n *node) []blockRange {
	bs := int64(p.o.BlockSize)
	switch {
	case n == p.resize: // its own block of pointers; the others are reserved in the groups' copies
		return []blockRange{{0, 1}}
	case n.in.IsRegular() && n != p.journal:
		return contentRanges(n.in.Content, bs)
	case n.in.IsSymlink() && n.size <= fastSymlinkMax: // it is in the inode
		return nil
	case n.size == 0:
		return nil
	}
	return []blockRange{{0, divUp(uint64(n.size), uint64(bs))}}
}

// contentRanges turns the byte extents of a content into ranges of blocks. A block that overlaps
// any extent has data.
func contentRanges(c tree.Content, blockSize int64) []blockRange {
	var ranges []blockRange
	for _, e := range c.Extents {
		first := uint64(e.Offset / blockSize)
		end := uint64((e.Offset + e.Length + blockSize - 1) / blockSize)
		if last := len(ranges) - 1; last >= 0 {
			if r := &ranges[last]; first <= r.first+r.count {
				r.count = end - r.first
				continue
			}
		}
		ranges = append(ranges, blockRange{first, end - first})
	}
	return ranges
}

// planJournal adds the inode of the journal, a file with one range.
func (p *plan) planJournal() {
	blocks := p.o.Journal / int64(p.o.BlockSize)
	p.journal = &node{
		in:    &tree.Inode{Mode: tree.S_IFREG | 0o600, ModTime: p.o.ModTime},
		name:  "(journal)",
		ino:   inodeJournal,
		links: 1,
		size:  blocks * int64(p.o.BlockSize),
	}
}

// inOrder calls fn for each inode in the order on disk: the journal and the resize inode, then all
// directories together, so that path lookups read little, then the rest.
func (p *plan) inOrder(fn func(*node) error) error {
	for _, n := range []*node{p.journal, p.resize, p.root} {
		if n == nil {
			continue
		}
		if err := fn(n); err != nil {
			return err
		}
	}
	for _, directories := range []bool{true, false} {
		for _, n := range p.nodes {
			if n.in.IsDir() != directories {
				continue
			}
			if err := fn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// byNumber gives the node with an inode number, or nil if there is none.
func (p *plan) byNumber(ino uint32) *node {
	switch {
	case ino == inodeRoot:
		return p.root
	case ino == inodeJournal:
		return p.journal
	case ino == inodeResize:
		return p.resize
	case ino >= firstInode && ino <= p.lastInode():
		return p.nodes[ino-firstInode]
	}
	return nil
}

// timestampOf returns the nearest time that an inode can store. For the zero Time it is the Unix
// epoch.
func timestampOf(t time.Time) timestamp {
	if t.IsZero() {
		return timestamp{}
	}
	switch sec := t.Unix(); {
	case sec < minTimestamp:
		return timestamp{Sec: minTimestamp}
	case sec > maxTimestamp:
		return timestamp{Sec: maxTimestamp}
	default:
		return timestamp{Sec: sec, Nsec: uint32(t.Nanosecond())}
	}
}
