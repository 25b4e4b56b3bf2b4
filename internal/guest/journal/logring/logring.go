// Package logring stores the last lines of a log in two files of bounded size: the current one and
// the previous one.
//
// Each line ends with a checksum, which detects lines that a power cut or a full disk has damaged:
//
//	TEXT #xxxxxxxx\n
//
// where the eight digits are the CRC-32C (Castagnoli) of TEXT. A reader skips every line with a
// wrong checksum; a writer that finds an incomplete last line begins a new line. The files are
// readable with `cat`.
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
	// MaxLine is the maximum length of a line, in bytes; longer lines are truncated.
	MaxLine = 8 << 10
	// sumSize is the length of a space, a number sign and eight digits.
	sumSize = 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame returns text in the file's format. Line breaks in it become spaces.
func frame(text string) []byte {
	text = strings.ReplaceAll(text[:min(len(text), MaxLine)], "\n", " ")
	return []byte(text + sum([]byte(text)) + "\n")
}

// sum returns the suffix with the checksum of a text.
func sum(text []byte) string { return fmt.Sprintf(" #%08x", crc32.Checksum(text, castagnoli)) }

// unframe returns the text of a line without line break and checksum, and whether the checksum
// matches.
func unframe(line []byte) (string, bool) {
	n := len(line) - sumSize
	if n < 0 || n > MaxLine || string(line[n:]) != sum(line[:n]) {
		return "", false
	}
	return string(line[:n]), true
}

// A Ring writes a log. It is not safe for concurrent use.
type Ring struct {
	path  string
	limit int64
	file  *os.File // nil until the first line, and after an error
	size  int64
	torn  bool // the file's last line may be incomplete
}

// New returns the ring whose files are path and path.1, each of at most limit bytes and one line.
// The first Append opens them.
func New(path string, limit int64) *Ring { return &Ring{path: path, limit: limit} }

// Append writes a line. After an error the line is lost, and the next call opens the file again.
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

// turn renames the current file to the previous one; the next line starts a new file. Like the
// lines it is not synced: the checksums detect damage by a power cut.
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

// Tail returns the last n intact lines of the ring at path, oldest first. limit is the size limit
// of its files. A ring that does not exist has no lines.
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
