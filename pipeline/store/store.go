package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/durable"
)

// A Store is a directory that holds blobs and action records; the package comment describes its
// layout and guarantees. Its methods may be called from several goroutines, and several processes
// may use one directory.
type Store struct {
	dir string

	mu   sync.Mutex
	lost map[Digest]bool // blobs that no cache has
}

// cacheDirTag tells backup programs to leave a directory out (https://bford.info/cachedir/).
const cacheDirTag = "Signature: 8a477f597d28d172789f06886806bc55\n" +
	"# This directory is a build cache: everything in it can be made again.\n"

// Open opens the store in dir and creates it if it does not exist. A store on a read-only file
// system can be opened: builds that find everything in it succeed, and a write fails with an error
// that says what to do.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", dir, err)
	}
	s := &Store{dir: abs}
	if err := s.layout(); err != nil && !s.usableReadOnly(err) {
		return nil, s.Advise(fmt.Errorf("open cache: %w", err))
	}
	if err := s.checkOwner(); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return s, nil
}

// Dir returns the absolute path of the store.
func (s *Store) Dir() string { return s.dir }

// folders are the directories of a store.
var folders = []string{"blobs/sha256", "stamps", "actions", "exports", "last", "locks", "tmp"}

// layout makes the directories of a store.
func (s *Store) layout() error {
	for _, sub := range folders {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o755); err != nil {
			return err
		}
	}
	tag := filepath.Join(s.dir, "CACHEDIR.TAG")
	if _, err := os.Stat(tag); err == nil {
		return nil
	}
	// It is not synced: the next Open writes it again.
	return os.WriteFile(tag, []byte(cacheDirTag), 0o644)
}

// usableReadOnly reports whether err is only a write error and the store can be read.
func (s *Store) usableReadOnly(err error) bool {
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	_, statErr := os.Stat(filepath.Join(s.dir, "actions"))
	return statErr == nil
}

func (s *Store) blobPath(d Digest) string {
	h := d.Hex()
	return filepath.Join(s.dir, "blobs", "sha256", h[:2], h)
}

func (s *Store) stampPath(d Digest) string {
	h := d.Hex()
	return filepath.Join(s.dir, "stamps", h[:2], h)
}

func (s *Store) recordPath(key string) string {
	return filepath.Join(s.dir, "actions", key+".json")
}

func (s *Store) lockPath(name string) string {
	return filepath.Join(s.dir, "locks", name)
}

// Use prevents Prune from removing anything until release is called. Build does so while it runs; a
// caller that uses the outputs after the build calls Use before Build. onWait, which may be nil, is
// called once if Use has to wait for a Prune.
func (s *Store) Use(ctx context.Context, onWait func(holder string)) (release func(), err error) {
	l, err := s.lock(ctx, "store", durable.Shared, durable.LockOptions{}, onWait)
	if errors.Is(err, unix.EROFS) {
		return func() {}, nil // Prune cannot write to it either
	}
	if err != nil {
		return nil, s.Advise(fmt.Errorf("lock cache: %w", err))
	}
	return l.Release, nil
}

// writeFile atomically replaces the content of path, in the store, with b, and syncs it.
func (s *Store) writeFile(path string, b []byte) error {
	return durable.WriteFile(path, b, 0o600, durable.In(s.tmp()))
}
