package durable

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFileSystem syncs the file system of dir (syncfs(2)).
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
