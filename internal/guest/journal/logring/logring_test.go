package logring

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const limit = 1000

func write(t testing.TB, r *Ring, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := r.Append(line); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, path string, n int) []string {
	t.Helper()
	lines, err := Tail(path, limit, n)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestLinesComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := read(t, path, 10); got != nil {
		t.Errorf("a ring that is not there holds %q", got)
	}
	r := New(path, limit)
	write(t, r, "one", "", "three with a # sign #00000000", "four\nlines\n", "ünïcödé", strings.Repeat("x", MaxLine+1))
	want := []string{"one", "", "three with a # sign #00000000", "four lines ", "ünïcödé", strings.Repeat("x", MaxLine)}
	if got := read(t, path, 10); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := read(t, path, 2); !slices.Equal(got, want[4:]) {
		t.Errorf("the last two are %q", got)
	}
	if text, _ := os.ReadFile(path + ".1"); !strings.HasPrefix(string(text), "one #") {
		t.Errorf("for a person it is %q", text)
	}
}

// TestBounded: the files do not grow beyond their limit, and the last lines are kept.
func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := New(path, limit)
	for i := range 1000 {
		write(t, r, fmt.Sprintf("line %d", i))
		if i%100 == 0 {
			if err := r.Close(); err != nil { // a boot ends
				t.Fatal(err)
			}
			r = New(path, limit)
		}
	}
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Size() > limit {
			t.Errorf("%s has %d bytes, %v", name, info.Size(), err)
		}
	}
	got := read(t, path, 1000)
	if len(got) < limit/2/20 || got[len(got)-1] != "line 999" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	for i, line := range got {
		if want := fmt.Sprintf("line %d", 1000-len(got)+i); line != want {
			t.Fatalf("%q where %q should be", line, want)
		}
	}
}

// TestDamage: damage loses the damaged lines and no others.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, New(path, limit), "one", "two", "three")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		damaged := slices.Clone(whole)
		damaged[at] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path, 10); len(got) < 1 || len(got) > 2 {
			t.Errorf("byte %d flipped: %q", at, got)
		}
	}
}

// TestFullDisk: a line that does not fit on a full disk is lost. The lines before and after it are
// kept.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	path := filepath.Join(t.TempDir(), "log")
	r := New(path, limit)
	write(t, r, "before")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := r.file
	r.file = full
	if err := r.Append("lost"); err == nil {
		t.Error("a full disk takes a line")
	}
	r.file = file
	full.Close()
	write(t, r, "after")
	if got := read(t, path, 10); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("%q", got)
	}
}

// FuzzTail: reading a file with any content returns whole lines or nothing.
func FuzzTail(f *testing.F) {
	f.Add([]byte("one #a3a2d0f3\n"), 10)
	f.Add(append(frame("one"), frame("two")...), 1)
	f.Add([]byte("\x00\x00\n #00000000\n#\n"), 3)
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		defer costtest.Text.Watch(t, len(b))()
		if n < 0 || n > 100 {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		lines := read(t, path, n)
		if len(lines) > n {
			t.Fatalf("%d lines, asked for %d", len(lines), n)
		}
		for _, line := range lines {
			if !bytes.Contains(b, frame(line)[:len(line)+sumSize]) {
				t.Errorf("%q is not in the file", line)
			}
		}
	})
}

// FuzzTornEnd: a power cut truncates a log's end, or fills it with zeros. The whole lines before it
// and the lines written later are read.
func FuzzTornEnd(f *testing.F) {
	f.Add("one", "two", uint16(3), false)
	f.Add("", "x #00000000", uint16(17), true)
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, first, second string, cut uint16, zeros bool) {
		defer costtest.Text.Watch(t, len(first)+len(second))()
		os.Remove(path)
		before := append(frame(first), frame(second)...)
		end := int(cut) % (len(before) + 1)
		torn := before[:end]
		if zeros {
			torn = append(slices.Clone(torn), make([]byte, len(before)-end)...)
		}
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		r := New(path, 1<<20)
		write(t, r, "after")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		lines, err := Tail(path, 1<<20, 10)
		if err != nil || len(lines) == 0 || lines[len(lines)-1] != "after" {
			t.Fatalf("%q, %v", lines, err)
		}
		if whole, _ := unframe(frame(first)[:len(frame(first))-1]); end >= len(frame(first)) && lines[0] != whole {
			t.Errorf("the whole line before the cut is %q, want %q", lines[0], whole)
		}
	})
}
