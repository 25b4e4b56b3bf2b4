// Package tree implements an ordered file tree in memory: names, owners, modes, times, extended
// attributes and links. The bytes of files are not copied: the tree refers to their source (a
// layer, a package, a buffer).
//
// A tree is composed from tars (ApplyTar, optionally with the whiteouts of container layers) and
// single entries (Put, Link, MkdirAll). Package ext4 writes it as a file system, WriteTar as a tar.
//
// Paths are slash separated and relative to the tree's root; "" and "." are the root itself. Paths
// cannot leave the tree: ".." and absolute link targets are resolved within the root, as in a
// chroot.
//
// A tree is built by one goroutine; while it does not change, many may read it.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// maxSymlinks is the number of symbolic links after which a resolution fails with ErrLoop; Linux
// has the same limit (MAXSYMLINKS, path_resolution(7)).
const maxSymlinks = 40

// ErrLoop is returned if a path has more symbolic links than Linux would follow.
var ErrLoop = errors.New("too many levels of symbolic links")

// A Tree is a file tree with one root directory.
type Tree struct {
	root *Inode
}

// New returns a tree with an empty root: mode 0755, owner 0:0, time the Unix epoch.
func New() *Tree {
	root := newDir(0o755)
	root.names = 1
	return &Tree{root: root}
}

func newDir(perm uint32) *Inode {
	return &Inode{Mode: S_IFDIR | perm&0o7777, ModTime: time.Unix(0, 0)}
}

// Root returns the root directory.
func (t *Tree) Root() *Inode { return t.root }

// Lookup returns the inode at p. It does not follow symbolic links in any part of p.
func (t *Tree) Lookup(p string) (*Inode, bool) {
	n := t.root
	for name, rest := cutPath(p); name != ""; name, rest = cutPath(rest) {
		if name == ".." {
			return nil, false
		}
		child, ok := n.entries[name]
		if !ok {
			return nil, false
		}
		n = child
	}
	return n, true
}

// cutPath splits off the first part of p; name is empty when none is left.
// Empty parts and "." are skipped.
func cutPath(p string) (name, rest string) {
	for p != "" {
		name, p, _ = strings.Cut(p, "/")
		if name != "" && name != "." {
			return name, p
		}
	}
	return "", ""
}

// Resolve follows every symbolic link of p inside the tree, and returns the path without links and
// the inode. An absolute target starts at the tree's root, and ".." in the root stays there. The
// error wraps fs.ErrNotExist if a part does not exist, and ErrLoop for a loop of links.
func (t *Tree) Resolve(p string) (string, *Inode, error) {
	w := walker{tree: t}
	where, n, err := w.walk(p, true)
	if err != nil {
		return "", nil, fmt.Errorf("resolve %s: %w", p, err)
	}
	return where, n, nil
}

// resolveParent resolves all parts of p except the last, which it returns as name. With create, it
// makes missing directories.
func (t *Tree) resolveParent(p string, create bool) (dirPath string, dir *Inode, name string, err error) {
	p = path.Clean("/" + p)
	parent, name := path.Split(p)
	if name == "" {
		return "", nil, "", errors.New("the root has no parent")
	}
	w := walker{tree: t, create: create}
	dirPath, dir, err = w.walk(parent, true)
	if err != nil {
		return "", nil, "", err
	}
	if !dir.IsDir() {
		return "", nil, "", fmt.Errorf("%s is not a directory", dirPath)
	}
	return dirPath, dir, name, nil
}

// A walker resolves one path.
type walker struct {
	tree   *Tree
	create bool // make what is missing a directory
	links  int  // symbolic links followed so far
}

// walk resolves p from the root. followLast says whether to follow a symbolic link in the last
// part.
func (w *walker) walk(p string, followLast bool) (string, *Inode, error) {
	trail := []*Inode{w.tree.root} // trail[i] is the directory of names[:i]
	var names []string
	rest := p
	for {
		var name string
		name, rest = cutPath(rest)
		dir := trail[len(trail)-1]
		switch name {
		case "":
			if len(names) == 0 {
				return ".", dir, nil
			}
			return strings.Join(names, "/"), dir, nil
		case "..":
			if len(names) > 0 {
				trail, names = trail[:len(trail)-1], names[:len(names)-1]
			}
			continue
		}
		if !dir.IsDir() {
			return "", nil, fmt.Errorf("%s is not a directory", strings.Join(names, "/"))
		}
		child, ok := dir.entries[name]
		if !ok {
			if !w.create {
				return "", nil, fmt.Errorf("%s: %w", strings.Join(append(names, name), "/"), fs.ErrNotExist)
			}
			child = newDir(0o755)
			dir.attach(name, child)
		}
		next, _ := cutPath(rest)
		if child.IsSymlink() && (followLast || next != "") {
			if w.links++; w.links > maxSymlinks {
				return "", nil, fmt.Errorf("%s: %w", strings.Join(append(names, name), "/"), ErrLoop)
			}
			if strings.HasPrefix(child.Target, "/") {
				trail, names = trail[:1], names[:0]
			}
			rest = child.Target + "/" + rest
			continue
		}
		trail, names = append(trail, child), append(names, name)
	}
}

// MkdirAll returns the directory p. It makes missing directories with the permissions perm.
// Symbolic links are followed inside the tree.
func (t *Tree) MkdirAll(p string, perm uint32) (*Inode, error) {
	existing, n, err := t.Resolve(p)
	if err == nil {
		if !n.IsDir() {
			return nil, fmt.Errorf("mkdir %s: %s is not a directory", p, existing)
		}
		return n, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mkdir %s: %w", p, err)
	}
	if parent := path.Dir(path.Clean("/" + p)); parent != "/" {
		if _, err := t.MkdirAll(parent, perm); err != nil {
			return nil, err
		}
	}
	w := walker{tree: t, create: true}
	_, n, err = w.walk(p, true)
	if err != nil {
		return nil, fmt.Errorf("mkdir %s: %w", p, err)
	}
	n.Mode = S_IFDIR | perm&0o7777
	return n, nil
}

// Put puts n at p and replaces an existing entry. Missing parents are made with mode 0755. Symbolic
// links among the parents are followed inside the tree; a link in the last part is replaced. A
// directory that replaces a directory takes over its entries; otherwise everything below p is
// removed. Putting the same file at two paths makes a hard link; a directory can have only one
// path.
func (t *Tree) Put(p string, n *Inode) error {
	if err := t.put(p, n); err != nil {
		return fmt.Errorf("put %s: %w", p, err)
	}
	return nil
}

func (t *Tree) put(p string, n *Inode) error {
	if n.IsDir() && n.names > 0 {
		return errors.New("the directory already has a place in a tree")
	}
	if isRoot(p) {
		if !n.IsDir() {
			return errors.New("the root must be a directory")
		}
		n.takeEntries(t.root)
		t.root.names, n.names = 0, 1
		t.root = n
		return nil
	}
	_, dir, name, err := t.resolveParent(p, true)
	if err != nil {
		return err
	}
	old := dir.entries[name]
	if old == n {
		return nil
	}
	if old != nil {
		if old.IsDir() && n.IsDir() {
			n.takeEntries(old)
		}
		dir.detach(name)
	}
	dir.attach(name, n)
	return nil
}

func isRoot(p string) bool { return path.Clean("/"+p) == "/" }

// Link adds the name newp to the file at oldp. It replaces an existing entry unless that is a
// directory. Symbolic links among the parents are followed inside the tree; a symbolic link in the
// last part is itself linked.
func (t *Tree) Link(oldp, newp string) error {
	if err := t.link(oldp, newp); err != nil {
		return fmt.Errorf("link %s to %s: %w", newp, oldp, err)
	}
	return nil
}

func (t *Tree) link(oldp, newp string) error {
	w := walker{tree: t}
	_, n, err := w.walk(oldp, false)
	if err != nil {
		return err
	}
	if n.IsDir() {
		return errors.New("a directory cannot have a second name")
	}
	if isRoot(newp) {
		return errors.New("the root must be a directory")
	}
	_, dir, name, err := t.resolveParent(newp, true)
	if err != nil {
		return err
	}
	switch old := dir.entries[name]; {
	case old == n:
		return nil
	case old != nil && old.IsDir():
		return fmt.Errorf("%s is a directory", newp)
	case old != nil:
		dir.detach(name)
	}
	dir.attach(name, n)
	return nil
}

// Remove removes p and everything below it, and reports whether p existed. It does not follow
// symbolic links. Removing the root removes its entries.
func (t *Tree) Remove(p string) bool {
	if isRoot(p) {
		had := len(t.root.entries) > 0
		t.root.clear()
		return had
	}
	parent, name := path.Split(path.Clean("/" + p))
	dir, ok := t.Lookup(parent)
	if !ok || dir.entries[name] == nil {
		return false
	}
	dir.detach(name)
	return true
}

// Walk calls fn for the root (path ".") and everything below it, directories before their entries
// and names in byte order. A hard-linked file is visited at each of its names. If fn returns
// fs.SkipDir for a directory, its entries are skipped; fs.SkipAll stops the walk; any other error
// ends it and is returned.
func (t *Tree) Walk(fn func(p string, n *Inode) error) error {
	err := walkBelow(".", t.root, fn)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func walkBelow(p string, n *Inode, fn func(string, *Inode) error) error {
	if err := fn(p, n); err != nil {
		if n.IsDir() && errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	for _, e := range n.Entries() {
		child := e.Name
		if p != "." {
			child = p + "/" + e.Name
		}
		if err := walkBelow(child, e.Inode, fn); err != nil {
			return err
		}
	}
	return nil
}
