package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
)

// Content refers to the bytes of a regular file. It is a value; copying it does not copy the bytes.
type Content struct {
	Size    int64    // of the file, in bytes
	Extents []Extent // by Offset, not overlapping; gaps between them are holes, which read as zeros
}

// An Extent is a range of a file's bytes in a source.
type Extent struct {
	Offset       int64 // in the file
	Length       int64
	Source       io.ReaderAt
	SourceOffset int64
}

// Bytes returns the content b. b must not change afterwards.
func Bytes(b []byte) Content {
	if len(b) == 0 {
		return Content{}
	}
	return Section(bytes.NewReader(b), 0, int64(len(b)))
}

// Section returns the content made of n bytes of src from off.
func Section(src io.ReaderAt, off, n int64) Content {
	if n <= 0 {
		return Content{}
	}
	return Content{Size: n, Extents: []Extent{{Length: n, Source: src, SourceOffset: off}}}
}

// Validate reports whether the extents are in order, do not overlap and lie
// within the size.
func (c Content) Validate() error {
	if c.Size < 0 {
		return fmt.Errorf("content has a negative size %d", c.Size)
	}
	var end int64
	for _, e := range c.Extents {
		if e.Offset < end || e.Length <= 0 || e.SourceOffset < 0 || e.Source == nil || e.Length > c.Size-e.Offset {
			return fmt.Errorf("content of %d bytes has a bad extent: %d bytes at %d", c.Size, e.Length, e.Offset)
		}
		end = e.Offset + e.Length
	}
	return nil
}

// Open returns a reader of the bytes, holes as zeros.
func (c Content) Open() *io.SectionReader { return io.NewSectionReader(c, 0, c.Size) }

// ReadAt reads from the sources and fills holes with zeros. A source that
// ends early gives an error that wraps io.ErrUnexpectedEOF.
func (c Content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read content: negative offset")
	}
	if off >= c.Size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > c.Size-off {
		p, eof = p[:c.Size-off], io.EOF
	}
	end := off + int64(len(p))
	pos := off
	i := sort.Search(len(c.Extents), func(i int) bool { return c.Extents[i].Offset+c.Extents[i].Length > off })
	for ; i < len(c.Extents) && c.Extents[i].Offset < end; i++ {
		e := c.Extents[i]
		if e.Offset > pos {
			clear(p[pos-off : e.Offset-off])
			pos = e.Offset
		}
		stop := min(end, e.Offset+e.Length)
		n, err := e.ReadAt(p[pos-off:stop-off], pos-e.Offset)
		pos += int64(n)
		if pos < stop {
			return int(pos - off), err
		}
	}
	clear(p[pos-off:])
	return len(p), eof
}

// ReadAt reads len(p) bytes of the extent from off, which counts from its
// beginning. A source that ends early gives an error that wraps
// io.ErrUnexpectedEOF.
func (e Extent) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > e.Length-off {
		return 0, fmt.Errorf("read content: %d bytes at %d are outside of an extent of %d", len(p), off, e.Length)
	}
	n, err := e.Source.ReadAt(p, e.SourceOffset+off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read %d bytes of content at %d of its source: %w", len(p), e.SourceOffset+off, err)
}
