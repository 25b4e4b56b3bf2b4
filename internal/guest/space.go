//go:build linux

package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/guest/journal"
)

const (
	// spacePoll is how often the data disk is looked at, for its size and for what is free.
	spacePoll = 10 * time.Second
	// A disk is nearly full below a tenth, or lowSpace bytes, and full below fullSpace: two segments of PostgreSQL's log,
	// without which it stops.
	lowSpace, fullSpace = 512 << 20, 32 << 20
)

// watchSpace grows the data disk's file system when its device has grown, and tells when it fills up, until ctx is done.
func (m *machine) watchSpace(ctx context.Context, device string) {
	warned, grows := "", true
	for {
		if grows {
			grows = m.growData(device)
		}
		data := m.dataStatus()
		if level := spaceLevel(data.Size, data.Free); level != warned {
			warned = level
			if data.Warning != "" {
				m.console.Log(journal.Warn, journal.InitName, data.Warning)
			} else {
				m.console.Log(journal.Info, journal.InitName, "the data disk has room again", "free", mebibytes(data.Free))
			}
		}
		select {
		case <-time.After(spacePoll):
		case <-ctx.Done():
			return
		}
	}
}

// growData makes the file system as large as its device, and reports whether to try it again some time.
func (m *machine) growData(device string) bool {
	from, to, err := growFileSystem(device, m.spec.Data.Path)
	if err != nil {
		m.problem("data disk", err)
		return false
	}
	if to > from {
		m.console.Log(journal.Info, journal.InitName, "data disk enlarged", "from", mebibytes(from), "to", mebibytes(to))
	}
	return true
}

// spaceLevel is "full", "nearly full" or "".
func spaceLevel(size, free int64) string {
	switch {
	case size == 0:
		return ""
	case free < fullSpace:
		return "full"
	case free < min(size/10, lowSpace):
		return "nearly full"
	}
	return ""
}

// spaceWarning says what a person has to know about the room that is left, "" if nothing.
func spaceWarning(size, free int64) string {
	level := spaceLevel(size, free)
	if level == "" {
		return ""
	}
	text := fmt.Sprintf("the data disk is %s: %s of %s are free. Make room, or enlarge it (vm.data in the recipe, data_mib in the phone's settings)",
		level, mebibytes(free), mebibytes(size))
	if level == "full" {
		text += "; PostgreSQL stops when it can write no more, and comes back when there is room"
	}
	return text
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// ioctlResize is EXT4_IOC_RESIZE_FS (fs/ext4/ext4.h): _IOW('f', 16, __u64), the new number of blocks.
const ioctlResize = 0x40086610

// growFileSystem makes the mounted ext4 file system on the device as large as the device, and returns its size before and
// after in bytes. A difference of less than a block group (128 MiB, to which data disks are rounded) is left alone.
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
	group := 8 * block * block // a bitmap of one block says which blocks of a group are taken
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

// ext4Size reads how many blocks of how many bytes the file system on the device has.
func ext4Size(device string) (blocks, block int64, err error) {
	// fs/ext4/ext4.h, struct ext4_super_block: __le32 s_blocks_count_lo, s_log_block_size, s_blocks_count_hi.
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
