package durable

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Exchange gives two files or folders each other's names, in one step and durably. Both exist, on
// one file system. What they hold must be synced already.
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
