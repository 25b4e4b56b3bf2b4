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

// Extract unpacks a tar of Archive into dir, which is empty. It accepts only what Archive writes:
// regular files, directories and symbolic links, at or below one of paths, each after its
// directory. Hard links, devices, absolute names, names with "..", and names through a symbolic
// link are errors. It drops the setuid and setgid bits of files.
//
// It sets owners by name, or by number if this image does not have the name. foreign is the number
// of files whose owner could not be set; they belong to this process's user.
func Extract(r io.Reader, paths []string, dir string) (foreign int, err error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	e := extractor{root: root, paths: paths, accounts: accounts{}}
	for _, name := range paths { // the tar does not have their parents
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

// An extractor unpacks a tar.
type extractor struct {
	root     int // descriptor of the target directory
	paths    []string
	open     []*tar.Header // the path of open directories; they get their modes and times when they are complete
	accounts accounts
	count    int // of entries
	foreign  int
}

// maxDepth is the maximum depth of directories. maxName is half of Linux's limit (PATH_MAX).
const (
	maxDepth = 1000
	maxName  = 2048 // bytes
)

func (e *extractor) add(header *tar.Header, content io.Reader) error {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes could become a file of any size
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
	// An entry that is not one of paths must be in the directory that was opened last.
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
	// reserve is the space that a restore leaves free on the data disk, in bytes: a database that
	// cannot write its WAL stops.
	reserve       = 128 << 20
	reserveInodes = 4096
	// bytesPerLook and entriesPerLook are how much is written between two checks of the free space.
	bytesPerLook   = 16 << 20
	entriesPerLook = 1024
)

// copyWithRoom copies content to w and stops with an error if the data disk fills up. fd is a file
// on the disk.
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

// checkRoom returns an error if the file system of fd is full up to the reserve.
func checkRoom(fd int) error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(fd, &stat); err != nil {
		return fmt.Errorf("read the free space: %w", err)
	}
	// A file system with dynamic inodes reports 0.
	if free := int64(stat.Bavail) * stat.Bsize; free < reserve || stat.Files > 0 && stat.Ffree < reserveInodes {
		return fmt.Errorf("the data disk has too little space for it: %d MiB and %d files are free, of which %d MiB and %d must stay free: use a larger disk, or remove something",
			free>>20, stat.Ffree, reserve>>20, reserveInodes)
	}
	return nil
}

// directory opens a directory below the root without following symbolic links.
func (e *extractor) directory(name string) (int, error) { return openBeneath(e.root, name) }

// openBeneath opens a directory below root without following symbolic links.
func openBeneath(root int, name string) (int, error) {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// leave closes the open directories that do not contain name.
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

// finish sets the owner, mode and times of an entry.
func (e *extractor) finish(parent int, base string, header *tar.Header) error {
	uid, gid := e.accounts.user(header), e.accounts.group(header)
	if err := unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		e.foreign++
	} else if err != nil {
		return fmt.Errorf("change its owner: %w", err)
	}
	if header.Typeflag != tar.TypeSymlink { // it cannot be replaced meanwhile: only this process uses dir
		mode := uint32(header.Mode) & 0o777
		if header.Typeflag == tar.TypeDir {
			mode = uint32(header.Mode) & 0o3777 // for a directory setgid and sticky are harmless
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

// accounts caches the numbers of users and groups by "u" or "g" and their name; -1 if this image
// does not have the name.
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
