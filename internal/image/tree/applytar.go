package tree

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// Names with a meaning in the layers of container images (OCI image-spec,
// layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // storage drivers' own files
)

// maxPath is the longest name accepted in a tar, Linux's PATH_MAX.
const maxPath = 4096

// TarOptions says how a tar is applied to a tree.
type TarOptions struct {
	// Whiteouts makes ".wh.NAME" remove NAME, and ".wh..wh..opq" everything in its directory,
	// except what the tar itself adds.
	Whiteouts bool
	// Skip, if not nil, is called with the cleaned name and reports whether to skip an entry. A
	// hard link to a skipped file is an error.
	Skip func(name string) bool
	// KeepDirSymlinks keeps a symbolic link to a directory if the tar has a directory with the same
	// name, as `tar --keep-directory-symlink` does.
	KeepDirSymlinks bool
	// Rooted accepts names and targets of hard links that begin with a slash, relative to the
	// tree's root, as container runtimes do for the layers of images. Without it, such a name is an
	// error.
	Rooted bool
}

// ApplyTar adds the entries of an uncompressed tar of the given size (ustar, PAX, GNU; sparse files
// as such; xattrs from SCHILY.xattr records) to the tree. It does not read contents: the tree
// refers to src.
//
// A later entry replaces an earlier one with the same name, except that a directory keeps its
// entries. Symbolic links among the parents are followed inside the tree. It is an error if a name
// is absolute (but see Rooted), has a ".." or a NUL byte, or has a parent that is not a directory,
// and if the target of a hard link does not exist. After an error the tree has a part of the tar.
func (t *Tree) ApplyTar(src io.ReaderAt, size int64, o TarOptions) error {
	s := &tarScanner{src: src, size: size, window: make([]byte, 0, tarWindow)}
	a := tarApplier{tree: t, options: o}
	var waiting []*tarEntry // until all whiteouts are applied
	for {
		e, err := s.entry()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if o.Rooted {
			e.name = rooted(e.name)
			if e.flag == tarLink {
				e.link = rooted(e.link)
			}
		}
		if err := e.checkNames(); err != nil {
			return fmt.Errorf("tar entry %q: %w", e.name, err)
		}
		if o.Skip != nil && o.Skip(cleanName(e.name)) {
			continue
		}
		if !o.Whiteouts {
			err = a.add(e)
		} else if strings.HasPrefix(path.Base(e.name), whiteoutPrefix) {
			// Before anything is added: a whiteout hides entries of lower layers, wherever it is in
			// this one.
			err = a.whiteout(e.name)
		} else {
			waiting = append(waiting, e)
		}
		if err != nil {
			return fmt.Errorf("tar entry %q: %w", e.name, err)
		}
	}
	for _, e := range waiting {
		if err := a.add(e); err != nil {
			return fmt.Errorf("tar entry %q: %w", e.name, err)
		}
	}
	return nil
}

// rooted returns a name without its leading slashes.
func rooted(name string) string {
	if trimmed := strings.TrimLeft(name, "/"); trimmed != "" || name == "" {
		return trimmed
	}
	return "."
}

func cleanName(name string) string {
	if clean := path.Clean("/" + name)[1:]; clean != "" {
		return clean
	}
	return "."
}

// checkNames returns an error for names that could leave the tree.
func (e *tarEntry) checkNames() error {
	if err := checkTarPath(e.name); err != nil {
		return fmt.Errorf("its name %w", err)
	}
	if e.flag == tarLink {
		if err := checkTarPath(e.link); err != nil {
			return fmt.Errorf("its link target %q %w", e.link, err)
		}
	}
	return nil
}

func checkTarPath(p string) error {
	switch {
	case p == "":
		return errors.New("is empty")
	case len(p) > maxPath:
		return fmt.Errorf("has %d bytes, more than the %d that Linux can open", len(p), maxPath)
	case p[0] == '/':
		return errors.New("is absolute")
	case strings.Contains(p, "\x00"):
		return errors.New("has a NUL byte")
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return errors.New("leads out of the tree by \"..\"")
		}
	}
	return nil
}

// A tarApplier adds entries to a tree.
type tarApplier struct {
	tree    *Tree
	options TarOptions
	// The directory of the last entry, usually also that of the next.
	dirName string
	dir     *Inode
}

// add puts one entry into the tree.
func (a *tarApplier) add(e *tarEntry) error {
	name := cleanName(e.name)
	if e.flag == tarLink {
		a.dir = nil
		if cleanName(e.link) == name {
			return nil
		}
		if old, ok := a.tree.Lookup(name); ok && old.IsDir() && name != "." {
			a.tree.Remove(name)
		}
		return a.tree.Link(e.link, name)
	}
	n, err := e.inode()
	if err != nil {
		return err
	}
	if name == "." {
		a.dir = nil
		return a.tree.put(name, n)
	}
	dir, base, err := a.parent(name)
	if err != nil {
		return err
	}
	return a.replace(dir, base, name, n)
}

// parent returns the directory that name is in.
func (a *tarApplier) parent(name string) (*Inode, string, error) {
	dirName, base := path.Split(name)
	if a.dir != nil && a.dirName == dirName {
		return a.dir, base, nil
	}
	_, dir, base, err := a.tree.resolveParent(name, true)
	if err != nil {
		return nil, "", err
	}
	a.dir, a.dirName = dir, dirName
	return dir, base, nil
}

// replace makes n the entry base of dir.
func (a *tarApplier) replace(dir *Inode, base, name string, n *Inode) error {
	old := dir.entries[base]
	if old != nil {
		if old.IsSymlink() && n.IsDir() && a.options.KeepDirSymlinks {
			if _, target, err := a.tree.Resolve(name); err == nil && target.IsDir() {
				return nil
			}
		}
		if old.IsDir() && n.IsDir() {
			n.takeEntries(old)
		}
		a.dir = nil // it may be the replaced directory, or below it
		dir.detach(base)
	}
	dir.attach(base, n)
	return nil
}

// whiteout removes what the whiteout called name hides.
func (a *tarApplier) whiteout(name string) error {
	dirName, base := path.Split(cleanName(name))
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	opaque := base == opaqueWhiteout
	if strings.HasPrefix(base, whiteoutMeta) && !opaque {
		return nil
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("a whiteout must name what it hides")
	}
	_, dir, err := a.tree.Resolve(dirName)
	if err != nil || !dir.IsDir() {
		return nil // there is nothing to hide
	}
	if opaque {
		dir.clear()
	} else if dir.entries[hidden] != nil {
		dir.detach(hidden)
	}
	return nil
}

// inode makes a tree's inode of an entry that is not a hard link.
func (e *tarEntry) inode() (*Inode, error) {
	if e.uid < 0 || e.uid > math.MaxUint32 || e.gid < 0 || e.gid > math.MaxUint32 {
		return nil, fmt.Errorf("owner %d:%d does not fit in 32 bits", e.uid, e.gid)
	}
	n := &Inode{Mode: e.mode, UID: uint32(e.uid), GID: uint32(e.gid), ModTime: e.mtime, Xattrs: e.xattrs}
	switch e.flag {
	case tarRegOld, tarReg, tarCont:
		n.Mode |= S_IFREG
		n.Content = e.content
	case tarSymlink:
		if e.link == "" {
			return nil, errors.New("the symbolic link has no target")
		}
		n.Mode |= S_IFLNK
		n.Target = e.link
	case tarDir:
		n.Mode |= S_IFDIR
	case tarFIFO:
		n.Mode |= S_IFIFO
	case tarChar, tarBlockDev:
		if e.major < 0 || e.major > math.MaxUint32 || e.minor < 0 || e.minor > math.MaxUint32 {
			return nil, fmt.Errorf("device %d:%d does not fit in 32 bits", e.major, e.minor)
		}
		n.Mode |= S_IFCHR
		if e.flag == tarBlockDev {
			n.Mode = e.mode | S_IFBLK
		}
		n.Major, n.Minor = uint32(e.major), uint32(e.minor)
	default:
		return nil, fmt.Errorf("entries of type %q cannot be represented", e.flag)
	}
	return n, nil
}
