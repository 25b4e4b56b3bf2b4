package datadisk

import (
	"fmt"
	"os"
)

// Grow makes the disk at path one of size bytes, rounded down to whole 128 MiB, where it is
// smaller, and reports whether it was. It is never made smaller: what is in it is the user's. Only
// the file grows, and takes no room by it; the guest makes the file system as large at its next
// start. No machine may have the disk open.
func Grow(path string, size int64) (grown bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("enlarge disk %s: %w", path, err)
		}
	}()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	size -= size % sizeUnit
	if !info.Mode().IsRegular() || info.Size() >= size {
		return false, nil // a partition or the like is as large as it is
	}
	if size > MaxSize {
		return false, fmt.Errorf("%d bytes are more than %d (1 TiB)", size, int64(MaxSize))
	}
	if err := f.Truncate(size); err != nil {
		return false, err
	}
	return true, f.Sync()
}
