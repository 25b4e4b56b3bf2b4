package durable

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Exchange swaps the names of two files or folders, atomically and durably. Both must exist on one
// file system, and their contents must be synced already.
func Exchange(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	err := SyncDir(filepath.Dir(a))
	if other := filepath.Dir(b); other != filepath.Dir(a) {
		err = errors.Join(err, SyncDir(other))
	}
	return err
}
