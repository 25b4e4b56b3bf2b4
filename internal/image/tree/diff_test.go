package tree

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plant builds a tree and applies change to it, unless change is nil.
func plant(t *testing.T, change func(*Tree)) *Tree {
	t.Helper()
	tr := New()
	put := func(p string, n *Inode) {
		if err := tr.Put(p, n); err != nil {
			t.Fatal(err)
		}
	}
	put("etc/passwd", &Inode{Mode: S_IFREG | 0o644, Content: Bytes([]byte("root")), ModTime: time.Unix(9, 0)})
	put("etc/shadow", &Inode{Mode: S_IFREG | 0o600, Content: Bytes([]byte("none")), Xattrs: map[string][]byte{"user.a": {1}}})
	put("bin/sh", &Inode{Mode: S_IFLNK | 0o777, Target: "busybox"})
	put("dev/null", &Inode{Mode: S_IFCHR | 0o666, Major: 1, Minor: 3})
	if err := tr.Link("etc/passwd", "etc/passwd-"); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(tr)
	}
	return tr
}

func TestDiff(t *testing.T) {
	at := func(tr *Tree, p string) *Inode {
		n, ok := tr.Lookup(p)
		if !ok {
			t.Fatalf("%s is not there", p)
		}
		return n
	}
	for _, test := range []struct {
		name   string
		change func(*Tree)
		want   []Change
	}{
		{"nothing", nil, nil},
		{"content", func(tr *Tree) { at(tr, "etc/shadow").Content = Bytes([]byte("some")) },
			[]Change{{"etc/shadow", "changed", []string{"content"}}}},
		{"size", func(tr *Tree) { at(tr, "etc/shadow").Content = Bytes([]byte("longer")) },
			[]Change{{"etc/shadow", "changed", []string{"size"}}}},
		{"mode and owner", func(tr *Tree) { n := at(tr, "etc"); n.Mode, n.UID = S_IFDIR|0o700, 70 },
			[]Change{{"etc", "changed", []string{"mode", "owner"}}}},
		{"time", func(tr *Tree) { at(tr, "dev/null").ModTime = time.Unix(0, 1) },
			[]Change{{"dev/null", "changed", []string{"time"}}}},
		{"target", func(tr *Tree) { at(tr, "bin/sh").Target = "dash" },
			[]Change{{"bin/sh", "changed", []string{"target"}}}},
		{"device", func(tr *Tree) { at(tr, "dev/null").Minor = 5 },
			[]Change{{"dev/null", "changed", []string{"device"}}}},
		{"xattrs", func(tr *Tree) { at(tr, "etc/shadow").Xattrs = nil },
			[]Change{{"etc/shadow", "changed", []string{"xattrs"}}}},
		{"links", func(tr *Tree) {
			twin := *at(tr, "etc/passwd")
			tr.Remove("etc/passwd-")
			if err := tr.Put("etc/passwd-", &Inode{Mode: twin.Mode, Content: twin.Content, ModTime: twin.ModTime}); err != nil {
				t.Fatal(err)
			}
		}, []Change{{"etc/passwd", "changed", []string{"links"}}, {"etc/passwd-", "changed", []string{"links"}}}},
		{"came and went", func(tr *Tree) {
			tr.Remove("bin")
			if err := tr.Put("opt/a", &Inode{Mode: S_IFREG}); err != nil {
				t.Fatal(err)
			}
		}, []Change{{"bin", "removed", nil}, {"bin/sh", "removed", nil}, {"opt", "added", nil}, {"opt/a", "added", nil}}},
		{"type", func(tr *Tree) {
			if err := tr.Put("bin", &Inode{Mode: S_IFREG | 0o755, ModTime: time.Unix(0, 0)}); err != nil {
				t.Fatal(err)
			}
		}, []Change{{"bin", "changed", []string{"type"}}, {"bin/sh", "removed", nil}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Diff(plant(t, nil), plant(t, test.change))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDiffReadsErrors(t *testing.T) {
	broken := plant(t, func(tr *Tree) {
		n, _ := tr.Lookup("etc/shadow")
		n.Content = Section(strings.NewReader("no"), 0, 4)
	})
	_, err := Diff(plant(t, nil), broken)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "etc/shadow") {
		t.Errorf("got %v, want an unexpected EOF that names etc/shadow", err)
	}
}
