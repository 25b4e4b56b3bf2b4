package datadisk

import (
	"bytes"
	"context"
	"os"
)

// sparseFile is a new, empty file to which zeros are not written where it holds zeros anyway:
// go-diskfs clears inode tables and journal by writing, which would take 1/128 of the disk and
// the time to write it. Its writes fail once ctx is done.
type sparseFile struct {
	*os.File
	ctx     context.Context
	written map[int64]bool // pages, by number, that may hold something else than zeros
	err     error          // of the first failed write
}

// page is what a host's file system allocates at once, in bytes.
const page = 4096

var zeros [page]byte

// WriteAt implements io.WriterAt.
func (f *sparseFile) WriteAt(p []byte, off int64) (n int, err error) {
	defer func() {
		if f.err == nil {
			f.err = err
		}
	}()
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		part := p[:min(int64(len(p)), page-off%page)]
		if f.written[off/page] || !bytes.Equal(part, zeros[:len(part)]) {
			f.written[off/page] = true
			m, err := f.File.WriteAt(part, off)
			if err != nil {
				return n + m, err
			}
		}
		n, off, p = n+len(part), off+int64(len(part)), p[len(part):]
	}
	return n, nil
}
