//go:build linux

package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// sectorSize is the sector size of a disk image's partition table, and the unit of sizes in sysfs.
const sectorSize = 512

// Image returns the disk that the guest runs from, such as /dev/vda, or "" if it does not run from
// a disk image, as on a phone, where the root file system is a separate disk.
func Image() (string, error) {
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return "", err
	}
	below, err := filepath.Glob(fmt.Sprintf("/sys/dev/block/%d:%d/slaves/*/partition", unix.Major(root.Dev), unix.Minor(root.Dev)))
	if err != nil || len(below) == 0 {
		return "", err
	}
	partition, err := filepath.EvalSymlinks(filepath.Dir(below[0]))
	if err != nil {
		return "", err
	}
	return filepath.Join("/dev", strings.ReplaceAll(filepath.Base(filepath.Dir(partition)), "!", "/")), nil
}

// GrowPartition enlarges the data partition of a disk image that was written to a larger disk,
// moves the backup partition table to the disk's end, and notifies the kernel. It returns the
// partition's size before and after, in bytes. The file system is enlarged after it is mounted.
func GrowPartition(disk string) (from, to int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("enlarge the data partition of %s: %w", disk, err)
		}
	}()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	size, err := deviceSize(disk)
	if err != nil {
		return 0, 0, err
	}
	data, err := growTable(f, size)
	if err != nil {
		return 0, 0, err
	}
	from, err = partitionSize(disk, data.Index)
	to = int64(data.Size)
	if err != nil || from >= to {
		return from, from, err
	}
	return from, to, resizePartition(f, data)
}

// growTable enlarges the last partition, the data partition, in the tables of a disk of size bytes,
// and returns it.
func growTable(f *os.File, size int64) (*gpt.Partition, error) {
	table, err := gpt.Read(f, sectorSize, sectorSize)
	if err != nil {
		return nil, err
	}
	var data *gpt.Partition
	last := uint64(0)
	for _, p := range table.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		if last = max(last, p.End); p.Name == guestspec.DataLabel {
			data = p
		}
	}
	if data == nil || data.End != last {
		return nil, errors.New("its last partition is not " + guestspec.DataLabel)
	}
	if !table.RecoveredFromBackup && table.TotalSize() >= uint64(size)/sectorSize*sectorSize {
		return data, nil
	}
	table.Resize(uint64(size))
	const aligned = 1 << 20 / sectorSize
	if end := (table.LastDataSector()+1)/aligned*aligned - 1; end > data.End {
		data.End, data.Size = end, (end-data.Start+1)*sectorSize
	}
	return data, table.Write(f, size)
}

// partitionSize returns the kernel's size of a partition.
func partitionSize(disk string, number int) (int64, error) {
	name := filepath.Base(disk)
	entries, err := filepath.Glob(filepath.Join("/sys/class/block", name, name+"*", "partition"))
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if n, err := readNumber(entry); err != nil || n != int64(number) {
			continue
		}
		sectors, err := readNumber(filepath.Join(filepath.Dir(entry), "size"))
		return sectors * sectorSize, err
	}
	return 0, fmt.Errorf("the kernel does not know partition %d", number)
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// resizePartition sets the kernel's size of a partition, which may be in use (block/ioctl.c,
// blkpg_do_ioctl).
func resizePartition(f *os.File, p *gpt.Partition) error {
	change := unix.BlkpgPartition{Start: int64(p.Start) * sectorSize, Length: int64(p.Size), Pno: int32(p.Index)}
	request := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(change)), Data: (*byte)(unsafe.Pointer(&change))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("tell the kernel: %w", errno)
	}
	return nil
}
