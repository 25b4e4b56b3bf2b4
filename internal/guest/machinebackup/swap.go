//go:build linux

package machinebackup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A swap replaces current data by restored data. It can be repeated after any interruption: the
// disk shows which renames are done.
type swap struct {
	dir   string // absolute path of guestspec.RestoreDir on the data disk
	Items []item `json:"items"`
}

// An item is one path of a service.
type item struct {
	Path string `json:"path"` // absolute
	// Dir is the absolute path of guestspec.RestoreDir on Path's volume; empty if Path is on the
	// data disk.
	Dir string `json:"dir,omitempty"`
	// New is the restored path, relative to Dir; empty if the path did not exist in the backup.
	New string `json:"new,omitempty"`
	// Contents says that only the directory's content is replaced: running services have mounts
	// over the directory, which hide it from them and would disappear with it.
	Contents bool `json:"contents,omitempty"`
}

// rename performs each change of a swap. Tests replace it.
var rename = unix.Renameat2

// note is the name of the file that records a started swap.
const note = "swap.json"

// check returns an error unless the parents of all items can be opened.
func (s *swap) check() error {
	for _, item := range s.Items {
		place := item.Path
		if !item.Contents {
			place = filepath.Dir(place)
		}
		dir, err := openReal(place)
		if err != nil {
			return fmt.Errorf("the place of %s: %w", item.Path, err)
		}
		unix.Close(dir)
	}
	return nil
}

// begin writes the swap to the note. From now on the swap will be completed, even if the machine
// stops meanwhile. It syncs the staged data first.
func (s *swap) begin() error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.dir, note), text, 0o600)
}

// finish completes a swap that begin recorded.
func (s *swap) finish() error {
	for i, item := range s.Items {
		if err := s.swap(i, item); err != nil {
			return fmt.Errorf("replace %s: %w", item.Path, err)
		}
	}
	if err := s.sync(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.dir, note)); err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

// sync syncs the file systems of all items.
func (s *swap) sync() error {
	dirs := []string{s.dir}
	for i := range s.Items {
		if dir := s.place(i); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := durable.SyncFileSystem(dir); err != nil {
			return err
		}
	}
	return nil
}

// place returns the directory for restores on the disk of item i. staged returns the path of its
// restored data.
func (s *swap) place(i int) string  { return cmp.Or(s.Items[i].Dir, s.dir) }
func (s *swap) staged(i int) string { return filepath.Join(s.place(i), s.Items[i].New) }

// old returns the path to which the replaced data of item i is moved. moved returns its name after
// the move is complete.
func (s *swap) old(i int) string   { return filepath.Join(s.place(i), "old-"+strconv.Itoa(i)) }
func (s *swap) moved(i int) string { return filepath.Join(s.place(i), "moved-"+strconv.Itoa(i)) }

func (s *swap) swap(i int, item item) error {
	if item.Contents {
		return s.swapContents(i, item)
	}
	parent, err := openReal(filepath.Dir(item.Path))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := filepath.Base(item.Path)
	if replaced, err := exists(unix.AT_FDCWD, s.old(i)); err != nil {
		return err
	} else if !replaced {
		if there, err := s.waits(i); err != nil || item.New != "" && !there {
			return err // already moved to a path that did not exist
		}
		if err := rename(parent, base, unix.AT_FDCWD, s.old(i), 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	if there, err := s.waits(i); err != nil || !there {
		return err
	}
	from, err := openReal(filepath.Dir(s.staged(i)))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return rename(from, filepath.Base(item.New), parent, base, unix.RENAME_NOREPLACE)
}

// waits reports whether an item's restored data is not swapped in yet.
func (s *swap) waits(i int) (bool, error) {
	if s.Items[i].New == "" {
		return false, nil
	}
	from, err := openReal(filepath.Dir(s.staged(i)))
	if err != nil {
		return false, err
	}
	defer unix.Close(from)
	return exists(from, filepath.Base(s.staged(i)))
}

// swapContents moves the old content of a directory out and then the new content in.
func (s *swap) swapContents(i int, item item) error {
	place, err := openReal(item.Path)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	out, err := exists(unix.AT_FDCWD, s.moved(i))
	if err != nil {
		return err
	}
	if !out {
		if err := os.Mkdir(s.old(i), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		old, err := openReal(s.old(i))
		if err != nil {
			return err
		}
		err = moveAll(place, old)
		unix.Close(old)
		if err == nil {
			err = rename(unix.AT_FDCWD, s.old(i), unix.AT_FDCWD, s.moved(i), 0)
		}
		if err != nil {
			return err
		}
	}
	if item.New == "" {
		return nil
	}
	from, err := openReal(s.staged(i))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return moveAll(from, place)
}

// moveAll moves all entries of one directory to another.
func moveAll(from, to int) error {
	fd, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(1000)
		if len(names) == 0 {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		for _, name := range names {
			if err := rename(from, name, to, name, unix.RENAME_NOREPLACE); err != nil {
				return &fs.PathError{Op: "move", Path: name, Err: err}
			}
		}
		// Renames during a read of the directory may hide other entries, so read it again from the
		// beginning.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// openReal opens a directory by its absolute path without following symbolic links: the service may
// have created some, and this process has all rights.
func openReal(name string) (int, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(root)
	return openBeneath(root, strings.TrimPrefix(name, "/"))
}

func exists(dir int, name string) (bool, error) {
	var info unix.Stat_t
	err := unix.Fstatat(dir, name, &info, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil, err
}

// Recover completes an interrupted swap and removes the leftovers of an interrupted restore. It
// creates the directories for restores if services have a backup. It must be called before services
// start. roots are those of guestspec.Config.
func Recover(roots []string, services []guestspec.Service) error {
	dirs, err := makeRestoreDirs(roots, services)
	if dirs == nil || err != nil {
		return err
	}
	s := &swap{dir: dirs[0]}
	text, err := os.ReadFile(filepath.Join(s.dir, note))
	if errors.Is(err, fs.ErrNotExist) {
		return tidy(dirs)
	}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err == nil {
		err = s.finish()
	}
	if err != nil {
		return fmt.Errorf("end the restore that was interrupted: %w", err)
	}
	return tidy(dirs)
}

// makeRestoreDirs creates the directories for restores, one for each of roots. It returns nil if no
// service has a backup.
func makeRestoreDirs(roots []string, services []guestspec.Service) (dirs []string, err error) {
	if len(saved(services)) == 0 {
		return nil, nil
	}
	for _, root := range roots {
		dir := filepath.Join(root, guestspec.RestoreDir)
		// Services' users need search permission to reach their own directory.
		if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return nil, err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; !info.IsDir() || owner != 0 {
			return nil, fmt.Errorf("%s is not a directory of root: remove it", dir)
		}
		if err := os.Chmod(dir, 0o711); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// tidy removes what restores have left in dirs.
func tidy(dirs []string) (err error) {
	for _, dir := range dirs {
		entries, readErr := os.ReadDir(dir)
		err = errors.Join(err, readErr)
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
