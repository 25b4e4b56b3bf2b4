package configdisk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// InMemory writes an encoded disk to an anonymous file in memory (memfd_create(2)).
func InMemory(disk []byte) (*Memory, error) {
	fd, err := unix.MemfdCreate("sov-config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	m := &Memory{file: os.NewFile(uintptr(fd), "memfd:sov-config"), size: len(disk)}
	_, err = m.file.Write(disk)
	if err == nil {
		var again *os.File // SELinux may refuse it
		if again, err = m.Open(); err == nil {
			err = again.Close()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("in memory: %w", err), m.Forget())
	}
	return m, nil
}
