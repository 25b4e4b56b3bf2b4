package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SyncDir makes the names in a folder durable. Some network file systems cannot sync a folder; what
// they do instead is all there is, and not an error.
func SyncDir(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return syncFolder(folder)
}

func syncFolder(folder *os.File) error {
	err := folder.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// Rename gives a file, folder or link another name, durably. What it holds must be synced already.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	err := SyncDir(filepath.Dir(to))
	if parent := filepath.Dir(from); parent != filepath.Dir(to) {
		err = errors.Join(err, SyncDir(parent))
	}
	return err
}

// MkdirAll is os.MkdirAll that makes the names of the new folders durable. A folder that exists is
// left as it is.
func MkdirAll(dir string, perm fs.FileMode) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil {
		// Another process may have made it meanwhile, and not have synced it yet.
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
			return err
		}
	}
	return SyncDir(parent)
}
