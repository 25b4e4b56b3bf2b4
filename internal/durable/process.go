package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A ProcessLock is a lock of the process (fcntl(2), F_SETLK). The kernel reports its current
// holder. Two locks of one process do not exclude each other, and closing any descriptor of the
// file releases them: a process must not call ProcessLockHolder for a lock that it holds.
type ProcessLock struct{ f *os.File }

// wholeFile is the range of a ProcessLock.
var wholeFile = unix.Flock_t{Type: unix.F_WRLCK}

// TryProcessLock locks the file at path and creates it with mode 0600 if it does not exist. If
// another process has the lock, the error wraps ErrBusy.
func TryProcessLock(path string) (*ProcessLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	want := wholeFile
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &want); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &ProcessLock{f}, nil
}

// Release releases the lock. It keeps the file: otherwise two processes could lock two files of one
// name.
func (l *ProcessLock) Release() { l.f.Close() }

// ProcessLockHolder returns the process ID of the holder of the lock at path, or 0.
func ProcessLockHolder(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found := wholeFile
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &found); err != nil {
		return 0, fmt.Errorf("ask who holds %s: %w", path, err)
	}
	if found.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(found.Pid), nil
}
