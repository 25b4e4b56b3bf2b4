package export

import (
	"errors"

	"golang.org/x/sys/unix"
)

// swap swaps two directories: in one step by renameat2(2) on common file systems, elsewhere by
// three renames.
func swap(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return swapByRename(a, b)
	}
	return err
}
