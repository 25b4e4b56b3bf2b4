package canary

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Canary is a text in every secret of a test, and nowhere else, not even in another run of the
// test. Searches find it as plain text, in hex and in base64.
type Canary struct {
	Text    string
	needles [][]byte
}

func New() Canary {
	text := "c4n4ry" + rand.Text()
	c := Canary{Text: text, needles: [][]byte{[]byte(text)}}
	lower := hex.EncodeToString([]byte(text))
	c.needles = append(c.needles, []byte(lower), []byte(strings.ToUpper(lower)))
	for before := range 3 { // preceding bytes in the same base64 text shift it by so many bytes
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, before), text...))
		first := (before*8 + 5) / 6           // characters that contain bits of preceding bytes
		whole := (before + len(text)) * 8 / 6 // end of the characters without bits of following bytes
		c.needles = append(c.needles, []byte(encoded[first:whole]))
	}
	return c
}

func (c Canary) In(content []byte) bool {
	for _, needle := range c.needles {
		if bytes.Contains(content, needle) {
			return true
		}
	}
	return false
}

// InFiles returns the files below the folders that contain the canary and were modified since a
// time. It also searches in zip archives.
func (c Canary) InFiles(t testing.TB, since time.Time, folders ...string) []string {
	t.Helper()
	var found []string
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path != folder {
				return nil // removed meanwhile
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil || info.ModTime().Before(since) {
				return nil
			}
			held, err := c.inFile(path)
			if held {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func (c Canary) inFile(path string) (bool, error) {
	if filepath.Ext(path) == ".zip" {
		return c.inZip(path)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	for at := int64(0); ; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return false, nil // only holes follow
		}
		if err != nil {
			return false, err
		}
		if at, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE); err != nil {
			return false, err
		}
		if held, err := c.inStream(io.NewSectionReader(f, begin, at-begin)); held || err != nil {
			return held, err
		}
	}
}

func (c Canary) inZip(path string) (bool, error) {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return false, err
	}
	defer archive.Close()
	for _, entry := range archive.File {
		content, err := entry.Open()
		if err != nil {
			return false, err
		}
		held, err := c.inStream(content)
		content.Close()
		if held || err != nil {
			return held, err
		}
	}
	return false, nil
}

func (c Canary) inStream(r io.Reader) (bool, error) {
	const overlap = 256 // longer than any needle
	buffer := make([]byte, 1<<20)
	for kept := 0; ; {
		n, err := io.ReadFull(r, buffer[kept:])
		if c.In(buffer[:kept+n]) {
			return true, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buffer, buffer[len(buffer)-overlap:])
	}
}

// InProcesses returns the arguments and the environments of this computer's processes that contain
// the canary.
func (c Canary) InProcesses(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"cmdline", "environ"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err == nil && c.In(content) { // an error: the process has ended
				found = append(found, fmt.Sprintf("%s: %q", path, content))
			}
		}
	}
	return found
}

// WantNowhere fails the test if a process, or a file modified since a time, contains the canary.
func (c Canary) WantNowhere(t testing.TB, since time.Time, folders ...string) {
	t.Helper()
	for _, place := range append(c.InFiles(t, since, folders...), c.InProcesses(t)...) {
		t.Errorf("a secret is in %s", place)
	}
}
