package overlay

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
)

// A Builder makes a share of single entries, which all have the same time. Its output depends on
// the entries only, not on the order of adding them.
//
// It writes only the added entries, not their parent directories, so that directories of the layers
// below keep their mode and owner. A directory that may be missing must be added.
type Builder struct {
	time    time.Time
	entries map[string]entry
}

type entry struct {
	header  tar.Header
	content []byte
}

// NewBuilder returns an empty share.
func NewBuilder(t time.Time) *Builder {
	return &Builder{time: t, entries: map[string]entry{}}
}

// File adds a file owned by root. It replaces one added before.
func (b *Builder) File(name string, perm int64, content []byte) {
	b.add(name, tar.Header{Typeflag: tar.TypeReg, Mode: perm, Size: int64(len(content))}, content)
}

// Replace adds a file with the mode and owner of an existing file of the layers below.
func (b *Builder) Replace(name string, old *tree.Inode, content []byte) {
	b.add(name, tar.Header{Typeflag: tar.TypeReg, Mode: int64(old.Mode &^ tree.S_IFMT), Uid: int(old.UID), Gid: int(old.GID),
		Size: int64(len(content))}, content)
}

// Symlink adds a symbolic link.
func (b *Builder) Symlink(name, target string) {
	b.add(name, tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil)
}

// Directory adds a directory.
func (b *Builder) Directory(name string, perm int64, uid, gid uint32) {
	b.add(name, tar.Header{Typeflag: tar.TypeDir, Mode: perm, Uid: int(uid), Gid: int(gid)}, nil)
}

func (b *Builder) add(name string, h tar.Header, content []byte) {
	h.Name = strings.TrimPrefix(path.Clean("/"+name), "/")
	h.ModTime, h.Format = b.time, tar.FormatPAX
	b.entries[h.Name] = entry{h, content}
}

// WriteTar writes the share, parents before their children.
func (b *Builder) WriteTar(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[name]
		if err := t.WriteHeader(&e.header); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := t.Write(e.content); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return t.Close()
}

// Write writes the files that fill adds to the output NAME.tar. fill gets the tree of the shares
// below. The files get the newest time in that tree.
func Write(j *pipeline.Job, name string, below []Share, fill func(b *Builder, below *tree.Tree) error) error {
	merged, err := Merge(j, below...)
	if err != nil {
		return err
	}
	defer merged.Close()
	newest, err := Newest(merged.Tree)
	if err != nil {
		return err
	}
	b := NewBuilder(newest)
	if err := fill(b, merged.Tree); err != nil {
		return err
	}
	return b.commit(j, name+Suffix)
}

func (b *Builder) commit(j *pipeline.Job, name string) error {
	w, err := j.Create(name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := b.WriteTar(w); err != nil {
		return fmt.Errorf("write output %s: %w", name, err)
	}
	_, err = w.Commit()
	return err
}
