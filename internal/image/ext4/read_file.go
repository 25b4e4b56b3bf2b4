package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// content reads the bytes of an inode. Several goroutines may use it at once.
type content struct {
	nd *vnode

	mu   sync.Mutex
	last *window // of the last read: most reads are sequential
}

func newContent(nd *vnode) *content { return &content{nd: nd, last: &window{}} }

// spanAt returns the span with block n of the file.
func (c *content) spanAt(n uint64) (mapSpan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.covers(n) {
		w, err := c.nd.windowAt(n)
		if err != nil {
			return mapSpan{}, err
		}
		c.last = w
	}
	return c.last.at(n), nil
}

// ReadAt implements [io.ReaderAt]. Holes, unwritten blocks and unmapped blocks up to the file's
// size are zeros.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	size := int64(c.nd.Size)
	if off >= size {
		return 0, io.EOF
	}
	short := int64(len(p)) > size-off
	if short {
		p = p[:size-off]
	}
	n := 0
	for n < len(p) {
		m, err := c.readSpan(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// readSpan reads at off up to the end of the span there.
func (c *content) readSpan(p []byte, off int64) (int, error) {
	f := c.nd.fs
	s, err := c.spanAt(uint64(off) / uint64(f.blockSize))
	if err != nil {
		return 0, err
	}
	begin := int64(s.first) * int64(f.blockSize)
	end := int64(s.end()) * int64(f.blockSize)
	if int64(len(p)) > end-off {
		p = p[:end-off]
	}
	if s.zero() {
		clear(p)
		return len(p), nil
	}
	if err := f.readAt(p, f.blockOffset(s.start)+off-begin); err != nil {
		return 0, err
	}
	return len(p), nil
}

// file is an open file that is not a directory. Devices, FIFOs and sockets have no content and read
// as empty.
type file struct {
	info fileInfo
	path string
	*io.SectionReader
	closed bool
}

func newFile(path string, info fileInfo) *file {
	size := int64(info.nd.Size)
	if !info.nd.isType(modeRegular) {
		size = 0
	}
	return &file{info: info, path: path, SectionReader: io.NewSectionReader(newContent(info.nd), 0, size)}
}

func (f *file) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return f.info, nil
}

func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, f.fail("read", fs.ErrClosed)
	}
	n, err := f.SectionReader.Read(p)
	return n, f.fail("read", err)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.closed {
		return 0, f.fail("read", fs.ErrClosed)
	}
	if off < 0 {
		return 0, f.fail("read", fs.ErrInvalid)
	}
	n, err := f.SectionReader.ReadAt(p, off)
	return n, f.fail("read", err)
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if f.closed {
		return 0, f.fail("seek", fs.ErrClosed)
	}
	n, err := f.SectionReader.Seek(offset, whence)
	return n, f.fail("seek", err)
}

func (f *file) Close() error {
	if f.closed {
		return f.fail("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}

// fail adds the operation and the file to an error, except io.EOF.
func (f *file) fail(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &fs.PathError{Op: op, Path: f.path, Err: err}
}
