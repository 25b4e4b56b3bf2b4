package apk

import "io"

// Signed reports whether the file has a signature member.
func (f *File) Signed() bool { return f.signature != nil }

// Content returns the file without its signature member: the control and data members. That is an
// unsigned package, whose bytes do not depend on the key or the time of signing.
func (f *File) Content() *io.SectionReader {
	return io.NewSectionReader(f.r, f.controlAt.offset, f.size-f.controlAt.offset)
}
