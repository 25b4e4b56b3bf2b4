package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// createTemp makes an empty file under tmp. It carries a flock while it is open, by which other
// processes know that it is in use.
func (s *Store) createTemp() (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.tmp(), "file-")
		if err != nil {
			return nil, s.Advise(fmt.Errorf("create temporary file: %w", err))
		}
		held, err := hold(f)
		if err != nil {
			os.Remove(f.Name())
			return nil, fmt.Errorf("lock temporary file: %w", err)
		}
		if held {
			return f, nil
		}
	}
}

// Scratch makes an empty directory on the disk of the store, for a stage. release removes it.
func (s *Store) Scratch(stage string) (dir string, release func() error, err error) {
	for {
		dir, err := os.MkdirTemp(s.tmp(), "scratch-"+stage+"-")
		if err != nil {
			return "", nil, s.Advise(fmt.Errorf("make scratch directory: %w", err))
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		held := false
		if err == nil {
			held, err = hold(f)
		}
		if err != nil {
			os.Remove(dir)
			return "", nil, fmt.Errorf("lock scratch directory: %w", err)
		}
		if held {
			return dir, func() error { defer f.Close(); return removeAll(dir) }, nil
		}
	}
}

// hold locks a new temporary file or directory. It closes f and returns false if a sweep by another
// process came between its creation and the lock.
func hold(f *os.File) (bool, error) {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && samePath(f, f.Name()) {
		return true, nil
	}
	f.Close()
	if errors.Is(err, errLockBusy) {
		err = nil
	}
	return false, err
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

// Sweep removes temporary files and directories whose process is gone.
func (s *Store) Sweep() error {
	tmp := filepath.Join(s.dir, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return fmt.Errorf("look for leftovers of earlier builds: %w", err)
	}
	for _, e := range entries {
		if err := removeIfDead(filepath.Join(tmp, e.Name())); err != nil {
			return fmt.Errorf("remove leftovers of an earlier build: %w", err)
		}
	}
	return nil
}

// removeIfDead removes a temporary file or directory that no process holds.
func removeIfDead(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, errLockBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeAll(path)
}

// removeAll is os.RemoveAll that also gets rid of directories without write permission, such as
// those of a Go module cache.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// ValidName reports whether a stage or an output can have a name: whether a file in a directory
// could have it.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00\n")
}
