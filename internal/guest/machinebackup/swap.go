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

// A swap puts what a restore has brought in the places of what is there. It can be done again after
// it was interrupted anywhere: what was done is seen on the disk.
type swap struct {
	dir   string // guestspec.RestoreDir on the data disk, absolute
	Items []item `json:"items"`
}

// An item is one path of a service.
type item struct {
	Path string `json:"path"` // absolute
	// Dir is guestspec.RestoreDir on the volume that Path is on, absolute; empty: Path is on the
	// data disk.
	Dir string `json:"dir,omitempty"`
	// New is what takes its place, relative to Dir; empty: nothing, the path did not exist.
	New string `json:"new,omitempty"`
	// Contents says that the directory itself stays and what is in it is replaced: it is hidden
	// from other services, which run, by mounts that would go away with it.
	Contents bool `json:"contents,omitempty"`
}

// rename makes each change of a swap; a test interrupts one.
var rename = unix.Renameat2

// note is the name of the file that says which swap has begun.
const note = "swap.json"

// check returns an error unless the places of all items can be reached.
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

// begin writes down what is to be done. From here on it is done, also if the machine stops
// meanwhile. What was staged is on the disk by then.
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

// finish does what begin wrote down.
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

// sync has all that items are on written to its disk.
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

// place is the directory for restores on the disk of item i, and staged what takes the place of the
// item.
func (s *swap) place(i int) string  { return cmp.Or(s.Items[i].Dir, s.dir) }
func (s *swap) staged(i int) string { return filepath.Join(s.place(i), s.Items[i].New) }

// old is where the thing goes that item i replaces, and moved what that is called once all of it is
// there.
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
			return err // it has its place already, where nothing was
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

// waits reports whether what takes an item's place has not done so yet.
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

// swapContents moves all that is in a directory out, then all that is new in.
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

// moveAll moves all that is in one directory to another.
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
		// What moves while a directory is read may hide other entries: it is read again from its
		// beginning.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// openReal opens a directory by its absolute path, through no symbolic link: the service may have
// put some there, and this process may do anything.
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

// Recover ends a swap that was interrupted, and removes what a restore that was cut off has left.
// It makes the directories for restores where services have a backup. It is called before services
// start. roots are as guestspec.Config lists them.
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

// makeRestoreDirs returns the directories for restores, one for each of roots, or nil where no
// service has a backup.
func makeRestoreDirs(roots []string, services []guestspec.Service) (dirs []string, err error) {
	if len(saved(services)) == 0 {
		return nil, nil
	}
	for _, root := range roots {
		dir := filepath.Join(root, guestspec.RestoreDir)
		// Services' users pass through it to their own directory.
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
