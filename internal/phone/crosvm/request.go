package crosvm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// makeRequests creates the pipe of a machine's requests and opens it for reading and writing.
// crosvm inherits this descriptor and therefore never reads the end of the pipe, even if all
// writers have closed it.
func makeRequests(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pipe for requests: %w", err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("pipe for requests: make %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("pipe for requests: %w", err)
	}
	return f, nil
}

// Request writes a line for the guest to the pipe of a machine's requests. It needs neither the
// guest's network nor the process that started the machine. It returns an error if no crosvm reads
// the pipe.
func Request(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("ask the guest at its console: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("ask the guest at its console: %w", err)
	}
	return nil
}
