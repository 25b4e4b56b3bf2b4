package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
)

// WriteTar writes the tree as a PAX tar: the root as "./", then everything below it in the order of
// Walk, later names of a file as hard links to its first. Equal trees give equal bytes. Holes are
// written as zeros. Sockets cannot be stored in a tar and are an error.
func (t *Tree) WriteTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := WriteEntries(tw, ".", t.root, nil); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

// WriteEntries writes an inode, and everything below it, to an open tar under the name at. adjust,
// which may be nil, can change each header. Hard links to files outside the written entries are
// ignored.
func WriteEntries(tw *tar.Writer, at string, root *Inode, adjust func(*tar.Header)) error {
	first := make(map[*Inode]string)
	return walkBelow(at, root, func(p string, n *Inode) error {
		hdr, err := tarHeader(p, n)
		if err != nil {
			return fmt.Errorf("write tar entry %s: %w", p, err)
		}
		if adjust != nil {
			adjust(hdr)
		}
		if !n.IsDir() && n.names > 1 {
			if target, ok := first[n]; ok {
				hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, target, 0, nil
			} else {
				first[n] = p
			}
		}
		if err := tw.WriteHeader(hdr); err != nil {
			return fmt.Errorf("write tar entry %s: %w", p, err)
		}
		if hdr.Typeflag != tar.TypeReg {
			return nil
		}
		if _, err := io.Copy(tw, n.Content.Open()); err != nil {
			return fmt.Errorf("write tar entry %s: %w", p, err)
		}
		return nil
	})
}

func tarHeader(p string, n *Inode) (*tar.Header, error) {
	hdr := &tar.Header{
		Name:    p,
		Mode:    int64(n.Mode & 0o7777),
		Uid:     int(n.UID),
		Gid:     int(n.GID),
		ModTime: n.ModTime,
		Format:  tar.FormatPAX,
	}
	for name, value := range n.Xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string)
		}
		hdr.PAXRecords[xattrRecord+name] = string(value)
	}
	switch n.Type() {
	case S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, n.Content.Size
	case S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, p+"/"
	case S_IFLNK:
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, n.Target
	case S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case S_IFCHR, S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if n.Type() == S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(n.Major), int64(n.Minor)
	default:
		return nil, errors.New("a tar cannot hold a socket")
	}
	return hdr, nil
}
