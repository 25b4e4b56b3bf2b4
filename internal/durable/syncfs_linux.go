package durable

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFileSystem has all of the file system that dir is on written to its disk.
func SyncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}
