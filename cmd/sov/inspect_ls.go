package main

import (
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/image/ext4"
)

func newInspectLs() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls IMAGE [PATH]",
		Short:   "List a directory",
		Example: "  sov inspect ls out/sql/arm64 /etc/sov",
		Args:    cobra.RangeArgs(1, 2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			dir := inside(args)
			info, err := filesystem.Stat(dir)
			if err != nil {
				return err
			}
			names := []string{dir}
			if info.IsDir() {
				entries, err := filesystem.ReadDir(dir)
				if err != nil {
					return err
				}
				names = names[:0]
				for _, e := range entries {
					names = append(names, path.Join(dir, e.Name()))
				}
			}
			return list(c.OutOrStdout(), filesystem, names, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func list(w io.Writer, filesystem *ext4.FS, names []string, asJSON bool) error {
	reports := []*fileReport{}
	for _, name := range names {
		r, err := report(filesystem, name)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if asJSON {
		return printJSON(w, reports)
	}
	for _, r := range reports {
		if _, err := fmt.Fprintln(w, r.line(path.Base(r.Path))); err != nil {
			return err
		}
	}
	return nil
}

// fileReport is one entry as `--json` prints it.
type fileReport struct {
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

// report describes one path; a symbolic link is itself, not what it leads to.
func report(filesystem *ext4.FS, name string) (*fileReport, error) {
	info, err := filesystem.Lstat(name)
	if err != nil {
		return nil, err
	}
	stat := info.Sys().(*ext4.Stat)
	r := &fileReport{
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

// modeString writes an st_mode as ls does (POSIX, utility ls).
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

// line writes an entry as `ls -l` does.
func (r *fileReport) line(name string) string {
	name = shown(name)
	extent := fmt.Sprint(r.Size)
	if r.Device != "" {
		extent = r.Device
	}
	if r.Target != "" {
		name += " -> " + shown(r.Target)
	}
	return fmt.Sprintf("%s %3d %5d %5d %10s %s %s", r.Mode, r.Links, r.UID, r.GID, extent, r.Time[:19], name)
}
