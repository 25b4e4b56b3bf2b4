package stages

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps two directories in one step, as renameat2(2) does on every
// file system that matters; elsewhere it takes three renames.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return exchangeByRename(a, b)
	}
	return err
}
