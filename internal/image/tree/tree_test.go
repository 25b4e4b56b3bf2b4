package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// list returns a tree as lines, one for each name except the root.
func list(t *Tree) []string {
	var lines []string
	_ = t.Walk(func(p string, n *Inode) error {
		switch {
		case n.IsDir():
			p += "/"
		case n.IsSymlink():
			p += " -> " + n.Target
		case n.IsRegular():
			b := make([]byte, min(n.Content.Size, 100))
			_, _ = n.Content.ReadAt(b, 0)
			p += fmt.Sprintf(" = %q", b)
		}
		lines = append(lines, p)
		return nil
	})
	return lines[1:]
}

func file(content string) *Inode {
	return &Inode{Mode: S_IFREG | 0o644, Content: Bytes([]byte(content))}
}

func dir() *Inode { return &Inode{Mode: S_IFDIR | 0o700} }

func symlink(target string) *Inode { return &Inode{Mode: S_IFLNK | 0o777, Target: target} }

// must ends the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestPutReplaces(t *testing.T) {
	tr := New()
	must(t,
		tr.Put("b/kept", file("1")),
		tr.Put("a", dir()),
		tr.Put("a/below", file("2")),
		tr.Put("b", dir()),              // keeps its entries
		tr.Put("a", file("no dir now")), // removes a/below
		tr.Put("link", symlink("b")),
		tr.Put("link/through", file("3")),
		tr.Put("./x//y/./z", file("4")),
	)
	equal(t, list(tr), []string{`a = "no dir now"`, "b/", `b/kept = "1"`, `b/through = "3"`, "link -> b", "x/", "x/y/", `x/y/z = "4"`})
	if n, _ := tr.Lookup("b"); n.Mode != S_IFDIR|0o700 {
		t.Errorf("b has mode %o, not that of the directory put there", n.Mode)
	}
	if n, _ := tr.Lookup("x"); n.Mode != S_IFDIR|0o755 {
		t.Errorf("x has mode %o, not that of a directory made on the way", n.Mode)
	}
}

func TestPutRefuses(t *testing.T) {
	tr := New()
	d := dir()
	must(t, tr.Put("file", file("")), tr.Put("d", d), tr.Put("loop", symlink("loop")))
	for p, n := range map[string]*Inode{"file/below": file(""), "d/again": d, ".": file(""), "loop/x": file("")} {
		if err := tr.Put(p, n); err == nil {
			t.Errorf("Put(%q) worked", p)
		}
	}
}

func TestLinkCounts(t *testing.T) {
	tr := New()
	f := file("shared")
	must(t, tr.Put("a/f", f), tr.Link("a/f", "b/f"), tr.Put("c", f), tr.Put("s", symlink("c")), tr.Link("s", "s2"))
	if f.Nlink() != 3 {
		t.Errorf("file has %d links, want 3", f.Nlink())
	}
	if s, _ := tr.Lookup("s2"); !s.IsSymlink() || s.Nlink() != 2 {
		t.Errorf("the symbolic link itself was not linked: %+v", s)
	}
	if tr.Root().Nlink() != 4 {
		t.Errorf("root has %d links, want 4", tr.Root().Nlink())
	}
	if !tr.Remove("a") || tr.Remove("a") {
		t.Error("a can be removed once")
	}
	must(t, tr.Put("c", file("other")), tr.Link("b/f", "b/f"))
	if f.Nlink() != 1 || tr.Root().Nlink() != 3 {
		t.Errorf("file has %d links, root %d; want 1 and 3", f.Nlink(), tr.Root().Nlink())
	}
	for _, c := range [][2]string{{"b", "b2"}, {"none", "x"}, {"c", "b"}, {"c", "."}} {
		if err := tr.Link(c[0], c[1]); err == nil {
			t.Errorf("Link(%q, %q) worked", c[0], c[1])
		}
	}
}

func TestResolve(t *testing.T) {
	tr := New()
	must(t,
		tr.Put("usr/bin/sh", file("sh")),
		tr.Put("bin", symlink("usr/bin")),
		tr.Put("abs", symlink("/usr/bin/")),
		tr.Put("up", symlink("../../../usr")),
		tr.Put("usr/self", symlink("../usr/./bin/../bin/sh")),
		tr.Put("dangling", symlink("nothing")),
		tr.Put("a", symlink("b")), tr.Put("b", symlink("a")),
	)
	for p, want := range map[string]string{
		"": ".", ".": ".", "/": ".", "..": ".", "bin": "usr/bin", "bin/sh": "usr/bin/sh", "abs/sh": "usr/bin/sh",
		"up/bin/sh": "usr/bin/sh", "usr/self": "usr/bin/sh", "bin/..": "usr", "/../bin/../self": "usr/bin/sh",
	} {
		if got, _, err := tr.Resolve(p); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", p, got, err, want)
		}
	}
	for p, want := range map[string]error{"dangling": fs.ErrNotExist, "usr/none/x": fs.ErrNotExist, "a": ErrLoop, "b/x": ErrLoop} {
		if _, _, err := tr.Resolve(p); !errors.Is(err, want) {
			t.Errorf("Resolve(%q): %v, want %v", p, err, want)
		}
	}
	if _, _, err := tr.Resolve("usr/bin/sh/x"); err == nil {
		t.Error("a file was taken for a directory")
	}
	if _, ok := tr.Lookup("bin/sh"); ok {
		t.Error("Lookup followed a symbolic link")
	}
}

func TestMkdirAll(t *testing.T) {
	tr := New()
	must(t, tr.Put("run", symlink("/var/run")), tr.Put("file", file("")))
	d, err := tr.MkdirAll("run/a/b", 0o700)
	must(t, err)
	if got, _ := tr.Lookup("var/run/a/b"); got != d || d.Mode != S_IFDIR|0o700 {
		t.Errorf("made %+v", d)
	}
	if again, err := tr.MkdirAll("var/run/a/b", 0o755); err != nil || again != d || d.Mode != S_IFDIR|0o700 {
		t.Errorf("a directory that was there was changed: %+v, %v", again, err)
	}
	if _, err := tr.MkdirAll("file/x", 0o755); err == nil {
		t.Error("a directory was made in a file")
	}
}

func TestWalkSkips(t *testing.T) {
	tr := New()
	must(t, tr.Put("a/1", file("")), tr.Put("b/2", file("")), tr.Put("c", file("")), tr.Put("d", file("")))
	var seen []string
	err := tr.Walk(func(p string, n *Inode) error {
		seen = append(seen, p)
		switch p {
		case "a":
			return fs.SkipDir
		case "c":
			return fs.SkipAll
		}
		return nil
	})
	must(t, err)
	equal(t, seen, []string{".", "a", "b", "b/2", "c"})
}
