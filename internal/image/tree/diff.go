package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
)

// A Change is one path at which two trees differ.
type Change struct {
	Path string   `json:"path"`
	Kind string   `json:"kind"`           // "added", "removed" or "changed"
	What []string `json:"what,omitempty"` // of a changed path: "type", "content", "size", "mode", "owner", "time", "target", "device", "xattrs", "links"
}

// Diff compares two trees and returns the paths at which b differs from a, parents first and names
// in byte order. The result lists an added or removed path and everything below it. Contents are
// read and compared only if the sizes are equal. The error is a read error.
func Diff(a, b *Tree) ([]Change, error) {
	d := differ{first: [2]map[*Inode]string{make(map[*Inode]string), make(map[*Inode]string)}}
	if err := d.both(".", a.root, b.root); err != nil {
		return nil, fmt.Errorf("compare trees: %w", err)
	}
	return d.changes, nil
}

// A differ walks two trees side by side.
type differ struct {
	changes []Change
	first   [2]map[*Inode]string // the first path of each hard-linked inode
}

// both compares one path in both trees, and everything below it.
func (d *differ) both(p string, a, b *Inode) error {
	what := attributes(a, b)
	if a.Mode&S_IFMT == S_IFREG && b.Mode&S_IFMT == S_IFREG {
		same, err := SameContent(a.Content, b.Content)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		switch {
		case a.Content.Size != b.Content.Size:
			what = append(what, "size")
		case !same:
			what = append(what, "content")
		}
	}
	if d.link(0, p, a) != d.link(1, p, b) {
		what = append(what, "links")
	}
	if len(what) > 0 {
		d.changes = append(d.changes, Change{Path: p, Kind: "changed", What: what})
	}
	return d.below(p, a.Entries(), b.Entries())
}

// link returns the first path of a hard-linked file, or "" for others.
func (d *differ) link(side int, p string, n *Inode) string {
	if n.IsDir() || n.Nlink() < 2 {
		return ""
	}
	if first, ok := d.first[side][n]; ok {
		return first
	}
	d.first[side][n] = p
	return p
}

// below merges two sorted lists of entries.
func (d *differ) below(p string, a, b []Dirent) error {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			d.one(join(p, a[0].Name), "removed", a[0].Inode)
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			d.one(join(p, b[0].Name), "added", b[0].Inode)
			b = b[1:]
		default:
			if err := d.both(join(p, a[0].Name), a[0].Inode, b[0].Inode); err != nil {
				return err
			}
			a, b = a[1:], b[1:]
		}
	}
	return nil
}

// one records a path that only one tree has, with everything below it.
func (d *differ) one(p, kind string, n *Inode) {
	d.changes = append(d.changes, Change{Path: p, Kind: kind})
	for _, e := range n.Entries() {
		d.one(join(p, e.Name), kind, e.Inode)
	}
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// attributes lists the attributes in which two inodes differ, without the content.
func attributes(a, b *Inode) []string {
	var what []string
	for _, attribute := range []struct {
		name    string
		differs bool
	}{
		{"type", a.Mode&S_IFMT != b.Mode&S_IFMT},
		{"mode", a.Mode&^S_IFMT != b.Mode&^S_IFMT},
		{"owner", a.UID != b.UID || a.GID != b.GID},
		{"time", !a.ModTime.Equal(b.ModTime)},
		{"target", a.Target != b.Target},
		{"device", a.Major != b.Major || a.Minor != b.Minor},
		{"xattrs", !maps.EqualFunc(a.Xattrs, b.Xattrs, bytes.Equal)},
	} {
		if attribute.differs {
			what = append(what, attribute.name)
		}
	}
	return what
}

// SameContent reports whether two contents are the same bytes. It does not read contents of
// different sizes. The error is a read error.
func SameContent(a, b Content) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	const chunk = 256 << 10
	bufferA, bufferB := make([]byte, min(chunk, a.Size)), make([]byte, min(chunk, a.Size))
	for off := int64(0); off < a.Size; off += chunk {
		n := min(chunk, a.Size-off)
		if err := readFull(a, bufferA[:n], off); err != nil {
			return false, err
		}
		if err := readFull(b, bufferB[:n], off); err != nil {
			return false, err
		}
		if !bytes.Equal(bufferA[:n], bufferB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

func readFull(c Content, p []byte, off int64) error {
	if _, err := c.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
