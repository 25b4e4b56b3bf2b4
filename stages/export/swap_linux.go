package export

import (
	"errors"

	"golang.org/x/sys/unix"
)

// swap swaps two directories. renameat2(2) does that in one step on the file
// systems that people use; on others it takes three renames.
func swap(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return swapByRename(a, b)
	}
	return err
}
