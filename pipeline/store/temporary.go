package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/durable"
)

// createTemp creates an empty file under tmp and locks it. The lock tells other processes that the
// file is in use.
func (s *Store) createTemp() (*os.File, error) {
	f, err := durable.CreateTemp(s.tmp(), "file-")
	if err != nil {
		return nil, s.Advise(fmt.Errorf("create temporary file: %w", err))
	}
	return f, nil
}

// Scratch makes an empty directory on the disk of the store, for a stage. release removes it.
func (s *Store) Scratch(stage string) (dir string, release func() error, err error) {
	for {
		dir, err := os.MkdirTemp(s.tmp(), "scratch-"+stage+"-")
		if err != nil {
			return "", nil, s.Advise(fmt.Errorf("make scratch directory: %w", err))
		}
		l, err := durable.TryLock(dir, durable.Exclusive, durable.LockOptions{Existing: true})
		if err == nil {
			return dir, func() error { defer l.Release(); return removeAll(dir) }, nil
		}
		// A sweep by another process may have removed it.
		if !errors.Is(err, durable.ErrBusy) && !errors.Is(err, fs.ErrNotExist) {
			os.Remove(dir)
			return "", nil, fmt.Errorf("lock scratch directory: %w", err)
		}
	}
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

// Sweep removes temporary files and directories whose process has ended.
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
	l, err := durable.TryLock(path, durable.Exclusive, durable.LockOptions{Existing: true})
	if errors.Is(err, durable.ErrBusy) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Release()
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

// ValidName reports whether name is valid for a stage or an output: it must be valid as a file
// name.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00\n")
}
