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

// Archive writes files and directories to w, as a tar of the format pax: regular files, directories
// and symbolic links, with owners, modes and times, depth first. Names are absolute ones without
// the first slash. A path that does not exist is left out. Sockets, pipes and devices are left out
// too: the service makes them again. Two names of one file become two files.
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
			if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile, or never was
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
	n, err := io.Copy(a.w, io.LimitReader(f, header.Size)) // what is added meanwhile belongs to the next backup
	if err == nil && n < header.Size {
		err = errors.New("it became shorter while it was read: leave backup.command out, and the service is stopped meanwhile")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// names are those of users and groups by "u" or "g" and their number: versions of an image may
// number them differently.
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

// maxNames bounds names: there are no more accounts in an image that is made by hand.
const maxNames = 10000

// look returns what find finds, or "" for what has no name.
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
