package configdisk

import (
	"errors"
	"fmt"
	"os"
)

// A Memory is a config disk in memory. It exists as long as a process has it open.
type Memory struct {
	file *os.File
	size int
}

// Path returns the path by which this process can open the disk until Forget.
func (m *Memory) Path() string { return fmt.Sprintf("/proc/self/fd/%d", m.file.Fd()) }

// Open opens the disk to be read only.
func (m *Memory) Open() (*os.File, error) { return os.Open(m.Path()) }

// Close closes the disk. Other processes that have it open keep its content.
func (m *Memory) Close() error { return m.file.Close() }

// Forget overwrites the disk with zeros, also for other processes that have it open, and closes it.
// A second call does nothing.
func (m *Memory) Forget() error {
	_, err := m.file.WriteAt(make([]byte, m.size), 0)
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return errors.Join(err, m.file.Close())
}
