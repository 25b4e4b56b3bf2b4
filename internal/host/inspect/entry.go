package inspect

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// An Entry is a file, a directory or another node of a file system.
type Entry struct {
	Path   string            `json:"path"`
	Inode  uint32            `json:"inode"`
	Mode   string            `json:"mode"` // as ls writes it
	Links  uint32            `json:"links"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size"`             // bytes
	Blocks int64             `json:"blocks"`           // of 512 bytes, as stat(2) counts
	Device string            `json:"device,omitempty"` // major:minor
	Time   string            `json:"time"`             // of the last change of content, RFC 3339 with nanoseconds
	Target string            `json:"target,omitempty"`
	Xattrs map[string]string `json:"xattrs,omitempty"` // quoted as Go does
}

// List describes the entries of a directory, or the file name itself.
func List(filesystem *ext4.FS, name string) ([]*Entry, error) {
	info, err := filesystem.Stat(name)
	if err != nil {
		return nil, err
	}
	names := []string{name}
	if info.IsDir() {
		entries, err := filesystem.ReadDir(name)
		if err != nil {
			return nil, err
		}
		names = names[:0]
		for _, e := range entries {
			names = append(names, path.Join(name, e.Name()))
		}
	}
	list := []*Entry{}
	for _, name := range names {
		e, err := Describe(filesystem, name)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// Describe describes one path. It does not follow a symbolic link.
func Describe(filesystem *ext4.FS, name string) (*Entry, error) {
	info, err := filesystem.Lstat(name)
	if err != nil {
		return nil, err
	}
	stat := info.Sys().(*ext4.Stat)
	r := &Entry{
		Path: path.Join("/", name), Inode: uint32(stat.Inode), Mode: modeString(stat.Mode), Links: uint32(stat.Nlink),
		UID: stat.UID, GID: stat.GID, Size: info.Size(), Blocks: int64(stat.Blocks),
		Time: info.ModTime().UTC().Format("2006-01-02T15:04:05.000000000Z"),
	}
	if info.Mode()&fs.ModeDevice != 0 {
		r.Device = fmt.Sprintf("%d:%d", stat.Major, stat.Minor)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if r.Target, err = filesystem.ReadLink(name); err != nil {
			return nil, err
		}
	}
	xattrs, err := filesystem.Xattrs(name)
	if err != nil {
		return nil, err
	}
	for key, value := range xattrs {
		if r.Xattrs == nil {
			r.Xattrs = make(map[string]string)
		}
		r.Xattrs[key] = fmt.Sprintf("%q", value)
	}
	return r, nil
}

// modeString formats an st_mode as ls does (POSIX, utility ls).
func modeString(mode uint32) string {
	text := []byte("?rwxrwxrwx")
	types := map[uint32]byte{0o01: 'p', 0o02: 'c', 0o04: 'd', 0o06: 'b', 0o10: '-', 0o12: 'l', 0o14: 's'}
	if t, ok := types[mode>>12]; ok {
		text[0] = t
	}
	for bit := range 9 {
		if mode&(1<<(8-bit)) == 0 {
			text[1+bit] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		x, n byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&special.bit == 0 {
			continue
		}
		if text[special.at] == 'x' {
			text[special.at] = special.x
		} else {
			text[special.at] = special.n
		}
	}
	return string(text)
}

// Inside converts a path of the image to one of io/fs. An empty path is the root.
func Inside(name string) string {
	if clean := strings.TrimPrefix(path.Clean("/"+name), "/"); clean != "" {
		return clean
	}
	return "."
}
