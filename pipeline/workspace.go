package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A workspace is a directory under tmp for files that are being made. It
// carries a flock while its process lives, by which others know that it is
// in use.
type workspace struct {
	dir  string
	lock *os.File
}

func (s *Store) newWorkspace() (*workspace, error) {
	for {
		dir, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "")
		if err != nil {
			return nil, s.advise(fmt.Errorf("make a temporary directory: %w", err))
		}
		f, err := os.Open(dir)
		if err == nil {
			err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		}
		if err == nil && samePath(f, dir) {
			return &workspace{dir, f}, nil
		}
		f.Close()
		// Between making and locking it, someone's sweep may have taken it.
		if err == nil || errors.Is(err, errLockBusy) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		os.Remove(dir)
		return nil, fmt.Errorf("lock temporary directory: %w", err)
	}
}

// create makes an empty file.
func (w *workspace) create() (*os.File, error) {
	return os.CreateTemp(w.dir, "file-")
}

// scratch makes an empty directory whose name says whose it is.
func (w *workspace) scratch(stage string) (string, error) {
	return os.MkdirTemp(w.dir, "scratch-"+stage+"-")
}

// close removes the workspace and all that is left in it.
func (w *workspace) close() error {
	err := removeAll(w.dir)
	w.lock.Close()
	if err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	return nil
}

// sweepWorkspaces removes workspaces whose process is gone.
func (s *Store) sweepWorkspaces() error {
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

// removeIfDead removes a workspace that nobody holds.
func removeIfDead(dir string) error {
	f, err := os.Open(dir)
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
	return removeAll(dir)
}

// removeAll is os.RemoveAll that also gets rid of directories without write
// permission, such as those of a Go module cache.
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

// A lazyWorkspace is made when first asked for, so that a build that finds
// everything in the cache writes nothing.
type lazyWorkspace struct {
	store *Store
	mu    sync.Mutex
	ws    *workspace
}

func (l *lazyWorkspace) get() (*workspace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ws == nil {
		ws, err := l.store.newWorkspace()
		if err != nil {
			return nil, err
		}
		l.ws = ws
	}
	return l.ws, nil
}

func (l *lazyWorkspace) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ws == nil {
		return nil
	}
	err := l.ws.close()
	l.ws = nil
	return err
}

// validName reports whether a name can stand for a stage or an output: what
// a file in a directory may be called.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00\n")
}
