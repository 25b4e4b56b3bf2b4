package configdisk

import (
	"errors"
	"fmt"
	"os"
)

// A Memory is a config disk that is in no file system. It lives as long as a process has it open.
type Memory struct {
	file *os.File
	size int
}

// Path is by which this process can open the disk, until it is forgotten.
func (m *Memory) Path() string { return fmt.Sprintf("/proc/self/fd/%d", m.file.Fd()) }

// Open opens the disk to be read only.
func (m *Memory) Open() (*os.File, error) { return os.Open(m.Path()) }

// Close lets go of the disk. Those who have it open keep it as it is.
func (m *Memory) Close() error { return m.file.Close() }

// Forget overwrites the disk with zeros, also for those who have it open, and closes it. A second
// call does nothing.
func (m *Memory) Forget() error {
	_, err := m.file.WriteAt(make([]byte, m.size), 0)
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return errors.Join(err, m.file.Close())
}
