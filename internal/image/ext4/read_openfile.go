package ext4

import (
	"fmt"
	"os"
)

// A File is the file system in an image file, which stays open until Close.
type File struct {
	*FS
	file *os.File
}

// OpenFile opens the named image file with [Open]. Errors include the name.
func OpenFile(name string, options ...Option) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	fsys, err := Open(file, info.Size(), options...)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &File{fsys, file}, nil
}

// Close closes the image file. The file system cannot be read afterwards.
func (f *File) Close() error { return f.file.Close() }
