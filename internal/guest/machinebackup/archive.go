//go:build linux

package machinebackup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Archive writes files and directories to w as a PAX tar, depth first: regular files, directories
// and symbolic links, with owners, modes and times. Names are absolute paths without the leading
// slash. It skips paths that do not exist, and sockets, pipes and devices, which the service
// re-creates. A hard link becomes a separate file.
func Archive(ctx context.Context, w io.Writer, paths []string) error {
	a := archiver{w: tar.NewWriter(w), names: names{}}
	for _, name := range paths {
		err := filepath.WalkDir(name, func(name string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err == nil {
				err = a.add(name)
			}
			if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile, or never existed
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return a.w.Close()
}

// An archiver writes a tar.
type archiver struct {
	w     *tar.Writer
	names names
}

func (a *archiver) add(name string) error {
	var info unix.Stat_t
	if err := unix.Lstat(name, &info); err != nil {
		return &fs.PathError{Op: "look at", Path: name, Err: err}
	}
	if len(name) > maxName || strings.Count(name, "/") > maxDepth {
		return fmt.Errorf("%.200s… is longer than %d bytes or in more than %d directories: a restore would refuse it", name, maxName, maxDepth)
	}
	header := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Mode: int64(info.Mode & 0o7777), Uid: int(info.Uid), Gid: int(info.Gid),
		Uname: a.names.user(int(info.Uid)), Gname: a.names.group(int(info.Gid)), Format: tar.FormatPAX,
	}
	header.ModTime = unixTime(info.Mtim)
	switch info.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case unix.S_IFLNK:
		target, err := os.Readlink(name)
		if err != nil {
			return err
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
	case unix.S_IFREG:
		return a.addFile(name, header)
	default:
		return nil
	}
	return a.w.WriteHeader(header)
}

func (a *archiver) addFile(name string, header *tar.Header) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := a.w.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.Copy(a.w, io.LimitReader(f, header.Size)) // data that is appended meanwhile is left for the next backup
	if err == nil && n < header.Size {
		err = errors.New("it became shorter while it was read: leave backup.command out, and the service is stopped meanwhile")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// names caches the names of users and groups by "u" or "g" and their number. The archive has names
// because the numbers may differ between versions of an image.
type names map[string]string

func (n names) user(id int) string {
	return n.look("u"+strconv.Itoa(id), func() (string, error) {
		u, err := user.LookupId(strconv.Itoa(id))
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (n names) group(id int) string {
	return n.look("g"+strconv.Itoa(id), func() (string, error) {
		g, err := user.LookupGroupId(strconv.Itoa(id))
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

// maxNames limits names: no real image has more accounts.
const maxNames = 10000

// look returns the cached name or the result of find, or "" if there is no name.
func (n names) look(key string, find func() (string, error)) string {
	name, known := n[key]
	if !known {
		name, _ = find()
		if len(n) < maxNames {
			n[key] = name
		}
	}
	return name
}
