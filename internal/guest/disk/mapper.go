//go:build linux

package disk

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The device mapper's interface, version 4 (include/uapi/linux/dm-ioctl.h): the sizes of struct
// dm_ioctl and struct dm_target_spec, without the strings after them.
const (
	mapperControl = "/dev/mapper/control"
	mapperHeader  = 312
	mapperTarget  = 40

	mapperReadOnly = 1 << 0 // DM_READONLY_FLAG

	// _IOWR(0xfd, NUMBER, struct dm_ioctl)
	mapperCreate = 0xC138FD00 + 3 // DM_DEV_CREATE
	mapperLoad   = 0xC138FD00 + 9 // DM_TABLE_LOAD
	mapperResume = 0xC138FD00 + 6 // DM_DEV_SUSPEND, without the flag that suspends
)

// MapReadOnly creates a read-only device mapper device from one table line ("0 SECTORS TYPE
// PARAMETERS..."), and returns its path.
func MapReadOnly(name, table string) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("map %s: %w", name, err)
		}
	}()
	var sectors uint64
	var kind string
	if _, err := fmt.Sscanf(table, "0 %d %s", &sectors, &kind); err != nil {
		return "", fmt.Errorf("its table %.80q is not one of the device mapper: %w", table, err)
	}
	_, parameters, ok := strings.Cut(table, " "+kind+" ")
	if !ok || len(kind) > 15 {
		return "", fmt.Errorf("its table %.80q has no parameters", table)
	}
	control, err := os.OpenFile(mapperControl, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	request := func(number uintptr, flags uint32, payload []byte) ([]byte, error) {
		b := make([]byte, mapperHeader+len(payload))
		le := binary.NativeEndian
		le.PutUint32(b[0:], 4)               // version
		le.PutUint32(b[12:], uint32(len(b))) // data_size
		le.PutUint32(b[16:], mapperHeader)   // data_start
		if payload != nil {
			le.PutUint32(b[20:], 1) // target_count
		}
		le.PutUint32(b[28:], flags)
		copy(b[48:48+127], name)
		copy(b[mapperHeader:], payload)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), number, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
			return nil, errno
		}
		return b, nil
	}
	made, err := request(mapperCreate, mapperReadOnly, nil)
	if err != nil {
		return "", fmt.Errorf("make the device: %w", err)
	}
	target := make([]byte, mapperTarget, mapperTarget+len(parameters)+8)
	binary.NativeEndian.PutUint64(target[8:], sectors)
	copy(target[24:], kind)
	target = append(target, strings.TrimSuffix(parameters, "\n")...)
	target = append(target, make([]byte, 8-len(target)%8)...) // at least one zero ends the string
	if _, err := request(mapperLoad, mapperReadOnly, target); err != nil {
		return "", fmt.Errorf("load its table %.200q: %w", table, err)
	}
	if _, err := request(mapperResume, 0, nil); err != nil {
		return "", fmt.Errorf("start the device: %w", err)
	}
	number := binary.NativeEndian.Uint64(made[40:])
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(number)), nil
}
