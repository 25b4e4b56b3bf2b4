package secrets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sovereign-sql/sov/internal/durable"
)

// open opens a file of the store. It and the folders above it, up to the store's own, must be
// private to the user.
func (s *Store) open(path string) (*os.File, fs.FileInfo, error) {
	if err := s.checkFolders(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	return openFile(path)
}

func (s *Store) checkFolders(dir string) error {
	for {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		if err := checkPrivate(dir, info); err != nil || dir == s.dir {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// openFile opens a file that must be private to the user. It checks the opened file, not its path.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	// Without O_NONBLOCK, opening a FIFO would block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("%s is a symbolic link, which is not followed here", path)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = checkPrivate(path, info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// checkPrivate rejects files that other users could read or change.
func checkPrivate(path string, info fs.FileInfo) error {
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user: it is not used", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to others (mode %#o): chmod go= '%[1]s', and change the secrets that others may have seen", path, info.Mode().Perm())
	}
	return nil
}

// read returns the content of a file of the store.
func (s *Store) read(path string, limit int64) ([]byte, error) {
	f, _, err := s.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := readAll(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content, nil
}

var errTooLong = errors.New("too long")

// readAll reads to the end, at most limit bytes; beyond that it returns those and an error that
// wraps errTooLong.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(content)) > limit {
		return content[:limit], fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
	}
	return content, err
}

// write replaces a file of the store atomically, and creates its folder.
func (s *Store) write(path string, content []byte) error {
	folder := filepath.Dir(path)
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := s.checkFolders(folder); err != nil {
		return err
	}
	return durable.WriteFile(path, content, 0o600)
}
