//go:build linux

package machinebackup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Extract reads a tar of Archive and makes what it holds below dir, which is empty. It takes what
// Archive writes and nothing else: regular files, directories and symbolic links, at or below one
// of paths, each in a directory that came before it. Hard links, devices, absolute names, names
// with "..", and names through a symbolic link are errors. Bits that give a file's rights to who
// runs it are dropped.
//
// Owners are set by their names, or their numbers where this image has no such name; foreign is how
// many files could not be given to theirs, and belong to this process's user.
func Extract(r io.Reader, paths []string, dir string) (foreign int, err error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	e := extractor{root: root, paths: paths, accounts: accounts{}}
	for _, name := range paths { // what leads to them is not in the tar
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			return 0, err
		}
	}
	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return e.foreign, fmt.Errorf("the tar: %w", err)
		}
		if err := e.add(header, tr); err != nil {
			return e.foreign, fmt.Errorf("the tar's %.200q: %w", header.Name, err)
		}
	}
	return e.foreign, e.leave("")
}

// An extractor makes what a tar holds.
type extractor struct {
	root     int // the directory that all is made in
	paths    []string
	open     []*tar.Header // the directories that are being filled, each in the one before; they get their modes and times when they are left
	accounts accounts
	count    int // of entries
	foreign  int
}

// maxDepth bounds the directories in each other. The longest name has half as many bytes as Linux
// takes (PATH_MAX).
const (
	maxDepth = 1000
	maxName  = 2048 // bytes
)

func (e *extractor) add(header *tar.Header, content io.Reader) error {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes that become any size
			return errors.New("is a file with holes, which a backup does not have")
		}
	}
	if e.count++; e.count%entriesPerLook == 0 {
		if err := checkRoom(e.root); err != nil {
			return err
		}
	}
	name := strings.TrimSuffix(header.Name, "/")
	if name == "" || len(name) > maxName || path.Clean("/"+name) != "/"+name || strings.ContainsRune(name, 0) {
		return errors.New("is not a plain name below the root")
	}
	if !slices.ContainsFunc(e.paths, func(p string) bool { return "/"+name == p || strings.HasPrefix("/"+name, p+"/") }) {
		return fmt.Errorf("is not below %s", strings.Join(e.paths, ", "))
	}
	header.Name = name
	if err := e.leave(name); err != nil {
		return err
	}
	// Whatever is not a path itself lies in the directory that was entered last.
	if !slices.Contains(e.paths, "/"+name) && (len(e.open) == 0 || path.Dir(name) != e.open[len(e.open)-1].Name) {
		return errors.New("comes without its directory before it")
	}
	parent, err := e.directory(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := path.Base(name)
	switch header.Typeflag {
	case tar.TypeDir:
		if len(e.open) == maxDepth {
			return fmt.Errorf("is nested in more than %d directories", maxDepth)
		}
		if err := unix.Mkdirat(parent, base, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		e.open = append(e.open, header)
		return nil
	case tar.TypeSymlink:
		if err := unix.Symlinkat(header.Linkname, parent, base); err != nil {
			return fmt.Errorf("make symbolic link: %w", err)
		}
		return e.finish(parent, base, header)
	case tar.TypeReg:
		if err := e.writeFile(parent, base, content); err != nil {
			return err
		}
		return e.finish(parent, base, header)
	}
	return fmt.Errorf("has type %q: only files, directories and symbolic links are supported", header.Typeflag)
}

func (e *extractor) writeFile(parent int, base string, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	f := os.NewFile(uintptr(fd), base)
	return errors.Join(copyWithRoom(f, content, e.root), f.Close())
}

const (
	// reserve is what a restore leaves free on the data disk, in bytes: a database that cannot
	// write its log stops.
	reserve       = 128 << 20
	reserveInodes = 4096
	// bytesPerLook and entriesPerLook are what is written between two looks at what is free.
	bytesPerLook   = 16 << 20
	entriesPerLook = 1024
)

// copyWithRoom copies until the end of content, unless the data disk fills up. fd is on the disk.
func copyWithRoom(w io.Writer, content io.Reader, fd int) error {
	for {
		if err := checkRoom(fd); err != nil {
			return err
		}
		switch _, err := io.CopyN(w, content, bytesPerLook); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// checkRoom returns an error when nothing more may be written to the file system that fd is on.
func checkRoom(fd int) error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(fd, &stat); err != nil {
		return fmt.Errorf("read the free space: %w", err)
	}
	// A file system that makes inodes as it needs them has 0.
	if free := int64(stat.Bavail) * stat.Bsize; free < reserve || stat.Files > 0 && stat.Ffree < reserveInodes {
		return fmt.Errorf("the data disk has too little space for it: %d MiB and %d files are free, of which %d MiB and %d must stay free: use a larger disk, or remove something",
			free>>20, stat.Ffree, reserve>>20, reserveInodes)
	}
	return nil
}

// directory opens a directory below the root, through no symbolic link.
func (e *extractor) directory(name string) (int, error) { return openBeneath(e.root, name) }

// openBeneath opens a directory below the one that root is, through no symbolic link.
func openBeneath(root int, name string) (int, error) {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// leave ends the directories that name is not in.
func (e *extractor) leave(name string) error {
	for len(e.open) > 0 {
		last := e.open[len(e.open)-1]
		if strings.HasPrefix(name, last.Name+"/") {
			return nil
		}
		e.open = e.open[:len(e.open)-1]
		parent, err := e.directory(path.Dir(last.Name))
		if err != nil {
			return err
		}
		err = e.finish(parent, path.Base(last.Name), last)
		unix.Close(parent)
		if err != nil {
			return fmt.Errorf("%.200q: %w", last.Name, err)
		}
	}
	return nil
}

// finish gives what was made its owner, mode and times.
func (e *extractor) finish(parent int, base string, header *tar.Header) error {
	uid, gid := e.accounts.user(header), e.accounts.group(header)
	if err := unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		e.foreign++
	} else if err != nil {
		return fmt.Errorf("change its owner: %w", err)
	}
	if header.Typeflag != tar.TypeSymlink { // there is no other of its name: dir is this process's own
		mode := uint32(header.Mode) & 0o777
		if header.Typeflag == tar.TypeDir {
			mode = uint32(header.Mode) & 0o3777 // files in it get its group, or are removed by their owners alone
		}
		if err := unix.Fchmodat(parent, base, mode, 0); err != nil {
			return fmt.Errorf("change its mode: %w", err)
		}
	}
	when := unix.NsecToTimespec(header.ModTime.UnixNano())
	if err := unix.UtimesNanoAt(parent, base, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("change its time: %w", err)
	}
	return nil
}

func unixTime(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

// accounts are the numbers of users and groups, by "u" or "g" and their name; -1: this image does
// not have it.
type accounts map[string]int

func (a accounts) user(header *tar.Header) int {
	return a.look("u", header.Uname, header.Uid, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

func (a accounts) group(header *tar.Header) int {
	return a.look("g", header.Gname, header.Gid, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func (a accounts) look(kind, name string, number int, find func(name string) (string, error)) int {
	if name == "" {
		return number
	}
	id, known := a[kind+name]
	if !known {
		id = -1
		if text, err := find(name); err == nil {
			if n, err := strconv.Atoi(text); err == nil {
				id = n
			}
		}
		if len(a) < maxNames {
			a[kind+name] = id
		}
	}
	if id < 0 {
		return number
	}
	return id
}
