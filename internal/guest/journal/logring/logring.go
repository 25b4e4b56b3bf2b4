// Package logring keeps the last lines of a log in two files of bounded size: the one that is
// written, and the one before.
//
// Each line is followed by a checksum, so that what a power cut or a full disk has torn is told
// from what was written:
//
//	TEXT #xxxxxxxx\n
//
// where the eight digits are the CRC-32C (Castagnoli) of TEXT. A reader leaves out every line that
// does not fit its checksum and goes on with the next; a writer that finds a torn end begins a new
// line. For a person with `cat` it is a text file.
package logring

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	// MaxLine bounds a line, in bytes; what is longer is cut off.
	MaxLine = 8 << 10
	// sumSize is the length of a space, a number sign and eight digits.
	sumSize = 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame returns text as it stands in the file. Line breaks in it become spaces: a text is one line.
func frame(text string) []byte {
	text = strings.ReplaceAll(text[:min(len(text), MaxLine)], "\n", " ")
	return []byte(text + sum([]byte(text)) + "\n")
}

// sum is what follows a text.
func sum(text []byte) string { return fmt.Sprintf(" #%08x", crc32.Checksum(text, castagnoli)) }

// unframe returns the text of a line without its line break, and whether it is whole.
func unframe(line []byte) (string, bool) {
	n := len(line) - sumSize
	if n < 0 || n > MaxLine || string(line[n:]) != sum(line[:n]) {
		return "", false
	}
	return string(line[:n]), true
}

// A Ring is a log that is written. It is not safe for use by several goroutines at once.
type Ring struct {
	path  string
	limit int64
	file  *os.File // nil until the first line, and after an error
	size  int64
	torn  bool // the file's last line may lack its end
}

// New returns the ring whose files are path and path.1, each of at most limit bytes and one line.
// They are opened when there is something to write.
func New(path string, limit int64) *Ring { return &Ring{path: path, limit: limit} }

// Append writes a line. One that cannot be written is lost, and the next call tries again.
func (r *Ring) Append(text string) error {
	line := frame(text)
	if r.file != nil && r.size+int64(len(line)) > r.limit {
		if err := r.turn(); err != nil {
			return err
		}
	}
	if r.file == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if r.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := r.file.Write(line)
	r.size += int64(n)
	r.torn = err != nil && (n > 0 || r.torn)
	return err
}

// turn makes the file the one before and lets the next line begin another. Like the lines it is not
// synced: what a power cut tears is told from what was written by the checksums.
func (r *Ring) turn() error {
	if err := os.Rename(r.path, r.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.Close()
}

func (r *Ring) open() error {
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	r.size, err = f.Seek(0, io.SeekEnd)
	if err == nil && r.size > 0 {
		last := make([]byte, 1)
		_, err = f.ReadAt(last, r.size-1)
		r.torn = last[0] != '\n'
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file = f
	return nil
}

// Close closes the file; the next line opens it again.
func (r *Ring) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file, r.size, r.torn = nil, 0, false
	return f.Close()
}

// Tail returns the last n whole lines of the ring at path whose files have at most limit bytes,
// oldest first. A ring that is not there has none.
func Tail(path string, limit int64, n int) ([]string, error) {
	var lines []string
	for _, name := range []string{path + ".1", path} {
		text, err := readEnd(name, limit+MaxLine+sumSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			if s, ok := unframe(bytes.TrimSuffix(line, []byte("\n"))); ok {
				lines = append(lines, s)
			}
		}
	}
	return lines[max(0, len(lines)-n):], nil
}

// readEnd reads at most limit bytes from a file's end.
func readEnd(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, size-limit), limit))
}
