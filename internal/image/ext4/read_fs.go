package ext4

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// maxSymlinks is the number of symbolic links that one path may follow, as in Linux.
const maxSymlinks = 40

// Open opens a file, a directory or, as an empty file, a device, FIFO or socket. Symbolic links are
// followed within the image, as after chroot(2): absolute targets start at its root, and ".." does
// not leave it.
//
// Names must satisfy [fs.ValidPath], except that they need not be UTF-8, as in ext4. Open files
// implement [io.ReaderAt] and [io.Seeker].
func (f *FS) Open(name string) (fs.File, error) {
	at, err := f.resolve(name, true)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if !at.node.isType(modeDirectory) {
		return newFile(name, at.info(name)), nil
	}
	dir, err := f.directory(at.node.number, at.parent)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &openDir{info: at.info(name), path: name, entries: f.dirEntries(dir)}, nil
}

// Stat describes a file, following symbolic links as [FS.Open] does.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	at, err := f.resolve(name, true)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return at.info(name), nil
}

// Lstat describes a file. It does not follow a symbolic link.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	at, err := f.resolve(name, false)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return at.info(name), nil
}

// ReadLink returns the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	at, err := f.resolve(name, false)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	if !at.node.isType(modeSymlink) {
		return "", pathError("readlink", name, fmt.Errorf("not a symbolic link: %w", fs.ErrInvalid))
	}
	target, err := at.node.readlink()
	return target, pathError("readlink", name, err)
}

// ReadDir lists a directory, names in byte order.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	at, err := f.resolve(name, true)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	if !at.node.isType(modeDirectory) {
		return nil, pathError("readdir", name, syscall.ENOTDIR)
	}
	dir, err := f.directory(at.node.number, at.parent)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return f.dirEntries(dir), nil
}

// ReadFile reads a whole file. A sparse file that is larger than the image is an error: open it and
// read parts of it.
func (f *FS) ReadFile(name string) ([]byte, error) {
	at, err := f.resolve(name, true)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	switch {
	case at.node.isType(modeDirectory):
		return nil, pathError("read", name, syscall.EISDIR)
	case !at.node.isType(modeRegular) || at.node.Size == 0:
		return []byte{}, nil
	case at.node.Size > uint64(f.size):
		return nil, pathError("read", name, fmt.Errorf("sparse file of %d bytes is too large to read at once", at.node.Size))
	}
	b := make([]byte, at.node.Size)
	if _, err := newContent(at.node).ReadAt(b, 0); err != nil {
		return nil, pathError("read", name, err)
	}
	return b, nil
}

// pathError names the operation and the path in an error, if there is one.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// place is an inode and the directory that it was reached through; for the root, the root.
type place struct {
	node   *vnode
	parent uint32
}

func (p place) info(name string) fileInfo { return fileInfo{name: path.Base(name), nd: p.node} }

// resolve finds the inode of a path.
func (f *FS) resolve(name string, followLast bool) (place, error) {
	if !validPath(name) {
		return place{}, fs.ErrInvalid
	}
	root, err := f.node(inodeRoot)
	if err != nil {
		return place{}, err
	}
	trail := []place{{root, inodeRoot}} // from the root to the current directory
	links := 0
	for rest := name; rest != ""; {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		at := trail[len(trail)-1]
		switch element {
		case "", ".":
			continue
		case "..":
			trail = trail[:max(1, len(trail)-1)]
			continue
		}
		next, err := f.step(at, element)
		if err != nil {
			return place{}, err
		}
		if !next.node.isType(modeSymlink) || rest == "" && !followLast {
			trail = append(trail, next)
			continue
		}
		if links++; links > maxSymlinks {
			return place{}, fmt.Errorf("more than %d symbolic links: %w", maxSymlinks, syscall.ELOOP)
		}
		target, err := next.node.readlink()
		if err != nil {
			return place{}, err
		}
		if strings.HasPrefix(target, "/") {
			trail = trail[:1]
		}
		rest = joinRest(target, rest)
	}
	return trail[len(trail)-1], nil
}

// joinRest appends the rest of a path to a link's target.
func joinRest(target, rest string) string {
	if rest == "" {
		return target
	}
	return target + "/" + rest
}

// step returns the place of an entry of a directory.
func (f *FS) step(at place, element string) (place, error) {
	if !at.node.isType(modeDirectory) {
		return place{}, syscall.ENOTDIR
	}
	dir, err := f.directory(at.node.number, at.parent)
	if err != nil {
		return place{}, err
	}
	e, ok := dir.lookup(element)
	if !ok {
		return place{}, fs.ErrNotExist
	}
	nd, err := f.child(e)
	return place{nd, at.node.number}, err
}

// validPath is fs.ValidPath for names that need not be UTF-8.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return true
}

// fileInfo implements fs.FileInfo.
type fileInfo struct {
	name string
	nd   *vnode
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return int64(i.nd.Size) }
func (i fileInfo) Mode() fs.FileMode  { return fileMode(i.nd.Mode) }
func (i fileInfo) ModTime() time.Time { return i.nd.Mtime.time() }
func (i fileInfo) IsDir() bool        { return i.nd.isType(modeDirectory) }
func (i fileInfo) Sys() any           { return i.nd.stat() }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

// listed implements fs.DirEntry. Info reads its inode.
type listed struct {
	fs    *FS
	entry dirent
}

func (f *FS) dirEntries(d *directory) []fs.DirEntry {
	list := make([]fs.DirEntry, len(d.entries))
	for i, e := range d.entries {
		list[i] = listed{f, e}
	}
	return list
}

func (l listed) Name() string      { return l.entry.name }
func (l listed) IsDir() bool       { return l.entry.fileType == fileTypeDirectory }
func (l listed) Type() fs.FileMode { return typeMode(l.entry.fileType) }
func (l listed) String() string    { return fs.FormatDirEntry(l) }

func (l listed) Info() (fs.FileInfo, error) {
	nd, err := l.fs.child(l.entry)
	if err != nil {
		return nil, pathError("stat", l.entry.name, err)
	}
	return fileInfo{name: l.entry.name, nd: nd}, nil
}

// openDir implements fs.ReadDirFile.
type openDir struct {
	info    fileInfo
	path    string
	entries []fs.DirEntry // the entries not returned yet
	closed  bool
}

func (d *openDir) Stat() (fs.FileInfo, error) {
	if d.closed {
		return nil, pathError("stat", d.path, fs.ErrClosed)
	}
	return d.info, nil
}

func (d *openDir) Read([]byte) (int, error) {
	return 0, pathError("read", d.path, syscall.EISDIR)
}

func (d *openDir) Close() error {
	if d.closed {
		return pathError("close", d.path, fs.ErrClosed)
	}
	d.closed = true
	return nil
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, pathError("readdir", d.path, fs.ErrClosed)
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	list := d.entries[:n]
	d.entries = d.entries[n:]
	return list, nil
}
