package e2e

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
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A canary is a text that stands in every secret of a test, and nowhere else: not even in another run of it. It is
// searched for as it is, in hex and in base64.
type canary struct {
	text    string
	needles [][]byte
}

func newCanary() canary {
	text := "c4n4ry" + rand.Text()
	c := canary{text: text, needles: [][]byte{[]byte(text)}}
	lower := hex.EncodeToString([]byte(text))
	c.needles = append(c.needles, []byte(lower), []byte(strings.ToUpper(lower)))
	for before := range 3 { // what stands before it in the same base64 shifts it by so many bytes
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, before), text...))
		first := (before*8 + 5) / 6           // characters that hold bits of what stands before
		whole := (before + len(text)) * 8 / 6 // and those that hold none of what follows
		c.needles = append(c.needles, []byte(encoded[first:whole]))
	}
	return c
}

func (c canary) in(content []byte) bool {
	for _, needle := range c.needles {
		if bytes.Contains(content, needle) {
			return true
		}
	}
	return false
}

// inFiles returns the files below the folders, changed since a time, that hold the canary; files in zip archives too.
func (c canary) inFiles(t testing.TB, since time.Time, folders ...string) []string {
	t.Helper()
	var found []string
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path != folder {
				return nil // ended meanwhile
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

func (c canary) inFile(path string) (bool, error) {
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

func (c canary) inZip(path string) (bool, error) {
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

func (c canary) inStream(r io.Reader) (bool, error) {
	const overlap = 256 // longer than any needle
	buffer := make([]byte, 1<<20)
	for kept := 0; ; {
		n, err := io.ReadFull(r, buffer[kept:])
		if c.in(buffer[:kept+n]) {
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

// inProcesses returns what of the computer's processes has the canary among its arguments or in its environment.
func (c canary) inProcesses(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"cmdline", "environ"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err == nil && c.in(content) { // an error: it has ended
				found = append(found, fmt.Sprintf("%s: %q", path, content))
			}
		}
	}
	return found
}

// wantNowhere fails the test if the canary is in a file that was changed since a time, or in a process.
func (c canary) wantNowhere(t testing.TB, since time.Time, folders ...string) {
	t.Helper()
	for _, place := range append(c.inFiles(t, since, folders...), c.inProcesses(t)...) {
		t.Errorf("a secret is in %s", place)
	}
}

// The search finds what it is for: without that, finding nothing would say nothing.
func TestCanaryIsFound(t *testing.T) {
	c := newCanary()
	dir := t.TempDir()
	far := make([]byte, 1<<20+64)
	copy(far[1<<20-5:], c.text)
	for name, content := range map[string][]byte{
		"plain": []byte("x" + c.text), "across buffers": far, "hex": []byte(hex.EncodeToString([]byte("x" + c.text))),
		"base64-0": []byte(base64.StdEncoding.EncodeToString([]byte("abc" + c.text + "x"))),
		"base64-1": []byte(base64.StdEncoding.EncodeToString([]byte("a" + c.text + "xy"))),
		"base64-2": []byte(base64.StdEncoding.EncodeToString([]byte("ab" + c.text))),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if _, err := sparse.WriteAt([]byte(c.text), 8<<30); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Create(filepath.Join(dir, "packed.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(packed)
	entry, err := w.Create("entry")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(entry, c.text)
	if err := errors.Join(w.Close(), packed.Close(), os.WriteFile(filepath.Join(dir, "innocent"), []byte(c.text[1:]), 0o600)); err != nil {
		t.Fatal(err)
	}
	if found := c.inFiles(t, time.Time{}, dir); len(found) != 8 {
		t.Errorf("found in %q, want all but innocent", found)
	}
	for name, prepare := range map[string]func(*exec.Cmd){
		"cmdline": func(p *exec.Cmd) { p.Args[0] = c.text },
		"environ": func(p *exec.Cmd) { p.Env = []string{"X=" + c.text} },
	} {
		p := exec.CommandContext(t.Context(), "cat")
		prepare(p)
		hold, err := p.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if found := c.inProcesses(t); len(found) != 1 || !strings.Contains(found[0], fmt.Sprintf("/proc/%d/%s", p.Process.Pid, name)) {
			t.Errorf("%s: found %q", name, found)
		}
		hold.Close()
		p.Wait()
	}
}
