package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix returns the prefix of the names of a path's temporary files. os.CreateTemp appends digits.
func prefix(path string) string { return "." + filepath.Base(path) + ".new-" }

// RemoveLeftovers removes the temporary files of a path whose writers were killed.
func RemoveLeftovers(path string) error {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var faults []error
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix(path))
		if ok && e.Type().IsRegular() && digits != "" && strings.Trim(digits, "0123456789") == "" {
			faults = append(faults, removeAbandoned(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(faults...)
}

// removeAbandoned removes a temporary file that no process has locked.
func removeAbandoned(path string) error {
	l, err := TryLock(path, Exclusive, LockOptions{Existing: true})
	if errors.Is(err, ErrBusy) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Release()
	return os.Remove(path)
}

// CreateTemp is like os.CreateTemp, but the file is locked while it is open. Other processes can
// test with TryLock whether it is in use. On a file system without locks they must not remove it.
func CreateTemp(dir, pattern string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil && !errors.Is(err, ErrBusy) && !lockless(err) {
			f.Close()
			os.Remove(f.Name())
			return nil, err
		}
		// The file may have been removed as a leftover before it was locked.
		if !errors.Is(err, ErrBusy) && SameFile(f, f.Name()) {
			return f, nil
		}
		f.Close()
	}
}

// lockless reports whether err means that the file system does not support locks.
func lockless(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EINVAL)
}
