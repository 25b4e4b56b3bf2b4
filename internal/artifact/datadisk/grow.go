package datadisk

import (
	"fmt"
	"os"
)

// Grow enlarges the disk at path to size bytes, rounded down to whole 128 MiB, and reports whether
// it did. It never shrinks a disk. Only the sparse file grows, without using disk space; the guest
// enlarges the file system at its next start. No machine may have the disk open.
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
		return false, nil // a partition cannot be enlarged here
	}
	if size > MaxSize {
		return false, fmt.Errorf("%d bytes are more than %d (1 TiB)", size, int64(MaxSize))
	}
	if err := f.Truncate(size); err != nil {
		return false, err
	}
	return true, f.Sync()
}
