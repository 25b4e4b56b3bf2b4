//go:build linux

package disk

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlResize is EXT4_IOC_RESIZE_FS (fs/ext4/ext4.h): _IOW('f', 16, __u64), the new number of
// blocks.
const ioctlResize = 0x40086610

// growFileSystem enlarges the mounted ext4 file system to the device's size, and returns its size
// before and after in bytes. It ignores a difference of less than a block group (128 MiB, to which
// data disks are rounded).
func growFileSystem(device, mounted string) (from, to int64, err error) {
	blocks, block, err := ext4Size(device)
	if err != nil {
		return 0, 0, fmt.Errorf("size of the file system on %s: %w", device, err)
	}
	from = blocks * block
	size, err := deviceSize(device)
	if err != nil {
		return 0, 0, err
	}
	group := 8 * block * block // a group has as many blocks as one bitmap block has bits
	if size-from < group {
		return from, from, nil
	}
	f, err := os.Open(mounted)
	if err != nil {
		return from, from, err
	}
	defer f.Close()
	want := uint64(size / block)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlResize, uintptr(unsafe.Pointer(&want))); errno != 0 {
		return from, from, fmt.Errorf("enlarge the file system from %s to %s: %w", mebibytes(from), mebibytes(size), errno)
	}
	return from, int64(want) * block, nil
}

// ext4Size reads the number and the size of the blocks of the device's file system.
func ext4Size(device string) (blocks, block int64, err error) {
	// fs/ext4/ext4.h, struct ext4_super_block: __le32 s_blocks_count_lo, s_log_block_size,
	// s_blocks_count_hi.
	const lowAt, logAt, highAt, maxLog = 0x04, 0x18, 0x150, 6
	super, err := readAt(device, superOffset, 1024)
	if err != nil {
		return 0, 0, err
	}
	field := func(at int) int64 { return int64(binary.LittleEndian.Uint32([]byte(super[at:]))) }
	if field(logAt) > maxLog {
		return 0, 0, fmt.Errorf("a block size of 2^%d KiB", field(logAt))
	}
	return field(highAt)<<32 | field(lowAt), 1024 << field(logAt), nil
}

// deviceSize returns the size of a block device in bytes.
func deviceSize(device string) (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, 2)
}
