package tree

import (
	"slices"
	"strings"
	"time"
)

// File types and the mask that selects them, as in the st_mode of Linux (inode(7)). The rest of
// Inode.Mode are the permission bits 07777.
const (
	S_IFMT   = 0o170000
	S_IFSOCK = 0o140000
	S_IFLNK  = 0o120000
	S_IFREG  = 0o100000
	S_IFBLK  = 0o060000
	S_IFDIR  = 0o040000
	S_IFCHR  = 0o020000
	S_IFIFO  = 0o010000
)

// An Inode is a file, directory, symbolic link, device, FIFO or socket. The type in Mode decides
// which fields are used.
type Inode struct {
	Mode     uint32            // st_mode: one of S_IF* and the bits 07777
	UID, GID uint32            // owner and group
	ModTime  time.Time         // to the nanosecond
	Xattrs   map[string][]byte // by full name, such as "security.capability"
	Target   string            // of a symbolic link
	Major    uint32            // of a device
	Minor    uint32            // of a device
	Content  Content           // of a regular file

	names   int32 // number of directory entries that refer to the inode; 1 for a root
	subdirs int32 // entries that are directories
	entries map[string]*Inode
}

// A Dirent is a name in a directory.
type Dirent struct {
	Name  string
	Inode *Inode
}

// Type returns the S_IF* part of the mode.
func (n *Inode) Type() uint32 { return n.Mode & S_IFMT }

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.Type() == S_IFDIR }

// IsRegular reports whether n is a regular file.
func (n *Inode) IsRegular() bool { return n.Type() == S_IFREG }

// IsSymlink reports whether n is a symbolic link.
func (n *Inode) IsSymlink() bool { return n.Type() == S_IFLNK }

// IsDevice reports whether n is a character or block device.
func (n *Inode) IsDevice() bool { return n.Type() == S_IFCHR || n.Type() == S_IFBLK }

// Nlink returns the link count as stat(2) would: how many names a file has; for a directory two,
// plus one for each subdirectory.
func (n *Inode) Nlink() int {
	if n.IsDir() {
		return 2 + int(n.subdirs)
	}
	return int(n.names)
}

// Len returns how many entries a directory has.
func (n *Inode) Len() int { return len(n.entries) }

// Entries lists a directory, names in byte order.
func (n *Inode) Entries() []Dirent {
	list := make([]Dirent, 0, len(n.entries))
	for name, child := range n.entries {
		list = append(list, Dirent{name, child})
	}
	slices.SortFunc(list, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Entry returns the entry of a directory with the given name.
func (n *Inode) Entry(name string) (*Inode, bool) {
	child, ok := n.entries[name]
	return child, ok
}

func (n *Inode) attach(name string, child *Inode) {
	if n.entries == nil {
		n.entries = make(map[string]*Inode)
	}
	n.entries[strings.Clone(name)] = child // otherwise the whole path would stay in memory
	child.names++
	if child.IsDir() {
		n.subdirs++
	}
}

// detach removes an entry. It also removes the entries of a removed directory, so that the link
// counts of other files stay correct.
func (n *Inode) detach(name string) {
	child := n.entries[name]
	delete(n.entries, name)
	child.names--
	if child.IsDir() {
		n.subdirs--
		child.clear()
	}
}

// clear empties a directory.
func (n *Inode) clear() {
	for name := range n.entries {
		n.detach(name)
	}
}

// takeEntries moves the entries of from, a directory about to be replaced, to n.
func (n *Inode) takeEntries(from *Inode) {
	n.entries, n.subdirs = from.entries, from.subdirs
	from.entries, from.subdirs = nil, 0
}
