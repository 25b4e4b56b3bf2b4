package apk

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// install installs packages into tr one after the other.
func install(t testing.TB, tr *tree.Tree, packages ...testPkg) error {
	t.Helper()
	c := Changes{World: []Dep{}}
	for _, p := range packages {
		file := p.build(t)
		f, err := OpenPackage(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		c.Add = append(c.Add, addition(t, f.Info(), file))
	}
	return Install(tr, c)
}

func TestHostilePackages(t *testing.T) {
	named := func(name string) tarEntry {
		e := testFile("x: y").entry()
		e.Name = name
		return e
	}
	typed := func(flag byte, link string) tarEntry {
		e := testFile("x: ").entry()
		e.Typeflag, e.Linkname = flag, link
		delete(e.PAXRecords, paxChecksum)
		return e
	}
	for _, tc := range []struct {
		name  string
		files []tarEntry
		want  string
	}{
		{"absolute", []tarEntry{named("/x")}, "absolute"},
		{"parent", []tarEntry{named("../x")}, ".."},
		{"parent inside", append(entries("a/"), named("a/../../x")), ".."},
		{"control character", []tarEntry{named("a\nb")}, "control character"},
		{"whiteout", []tarEntry{named(".wh.etc")}, "whiteout"},
		{"no directory", entries("a/b: x"), "without its directory"},
		{"through its own link", append(entries("a -> /etc"), named("a/passwd")), "not a directory"},
		{"link becomes directory", entries("a -> /etc", "a/", "a/passwd: x"), "comes twice"},
		{"file twice", entries("a: 1", "a: 2"), "comes twice"},
		{"file in a file", append(entries("a: 1"), named("a/b")), "not a directory"},
		{"hard link out", []tarEntry{typed(tar.TypeLink, "../../etc/shadow")}, ".."},
		{"hard link to the base", []tarEntry{typed(tar.TypeLink, "etc/shadow")}, "shadow"},
		{"hard link forward", append([]tarEntry{typed(tar.TypeLink, "z")}, entries("z: 1")...), "z"},
		{"directory of the base", entries("etc: x"), "is a directory already"},
		{"directory over a file", entries("file/"), "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := tree.New()
			for _, p := range []string{"etc/shadow", "file"} {
				if err := tr.Put(p, &tree.Inode{Mode: tree.S_IFREG | 0o600, Content: tree.Bytes([]byte("secret"))}); err != nil {
					t.Fatal(err)
				}
			}
			err := install(t, tr, testPkg{name: "evil", version: "1", files: tc.files})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "evil-1") {
				t.Errorf("error %v, want one with %q that names the package", err, tc.want)
			}
			if _, ok := tr.Lookup(installedPath); ok {
				t.Error("the refused package left a database")
			}
		})
	}
}

// TestLinksStayInside installs through a link of the base image. It is followed, but never out of
// the root.
func TestLinksStayInside(t *testing.T) {
	tr := tree.New()
	if err := tr.Put("lib", &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: "/../../usr/lib"}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.MkdirAll("usr/lib", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(t, tr, testPkg{name: "p", version: "1", files: entries("lib/", "lib/f: x")}); err != nil {
		t.Fatal(err)
	}
	if _, ok := tr.Lookup("usr/lib/f"); !ok {
		t.Error("usr/lib/f is missing")
	}
	if n, _ := tr.Lookup("lib"); n == nil || !n.IsSymlink() {
		t.Error("the link lib was replaced")
	}
}

func TestFileConflict(t *testing.T) {
	one := testPkg{name: "one", version: "1", files: entries("f: 1")}
	err := install(t, tree.New(), one, testPkg{name: "two", version: "1", files: entries("f: 2")})
	if err == nil || !strings.Contains(err.Error(), "/f belongs to package one-1") {
		t.Errorf("error %v, want one that names the owner", err)
	}
	if err := install(t, tree.New(), one, testPkg{name: "two", version: "1", info: "replaces = one<1", files: entries("f: 2")}); err == nil {
		t.Error("a replaces that does not match the owner's version is taken for one")
	}
}

// TestOverlayCorrectsOrder installs packages whose data tars are applied in order. The overlay on
// top must correct replaced files, modes and owners.
func TestOverlayCorrectsOrder(t *testing.T) {
	packages := []testPkg{
		{name: "strong", version: "1", info: "replaces = weak", files: entries("700|d/", "d/x: strong", "4.4|e/")},
		{name: "weak", version: "1", files: entries("755|d/", "d/x: weak", "3.3|e/")},
	}
	tr := tree.New()
	if err := install(t, tr, packages...); err != nil {
		t.Fatal(err)
	}
	if text, err := readFile(tr, "d/x"); err != nil || string(text) != "strong" {
		t.Errorf("d/x is %q, %v; the package that replaces the other's files came first and keeps its own", text, err)
	}
	d, _ := tr.Lookup("d")
	e, _ := tr.Lookup("e")
	if d.Mode&0o7777 != 0o700 || e.UID != 3 {
		t.Errorf("d has mode %o, e owner %d; want what all packages grant and the lowest owner", d.Mode, e.UID)
	}
}

// TestInstalledRoundTrip reads and writes the databases of Alpine's root file systems, whose text
// must stay the same.
func TestInstalledRoundTrip(t *testing.T) {
	for _, name := range []string{minirootfsAMD64, minirootfsARM64} {
		root := t.TempDir()
		if err := extract(fixture(t, name), root); err != nil {
			t.Fatal(err)
		}
		tr := diskTree(t, root)
		db, err := readDatabase(tr)
		if err != nil {
			t.Fatal(err)
		}
		want, err := readFile(tr, installedPath)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(db.formatInstalled())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		keys, err := KeysFromTree(tr)
		if err != nil || len(keys) == 0 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		world, err := World(tr)
		if err != nil || len(world) != 5 {
			t.Errorf("%s: world %v, %v", name, world, err)
		}
	}
}

func TestEmptyTree(t *testing.T) {
	tr := tree.New()
	if installed, err := Installed(tr); err != nil || len(installed) != 0 {
		t.Errorf("Installed: %v, %v", installed, err)
	}
	if world, err := World(tr); err != nil || len(world) != 0 {
		t.Errorf("World: %v, %v", world, err)
	}
	if keys, err := KeysFromTree(tr); err != nil || len(keys) != 0 {
		t.Errorf("KeysFromTree: %v, %v", keys, err)
	}
}

func TestDeps(t *testing.T) {
	for _, s := range strings.Fields("a a=1 a<1 a<=1 a>1 a>=1 a~1 !a !a<2 a@edge a@edge>=1 so:libc.musl-x86_64.so.1 a><Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=") {
		d, err := ParseDep(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if d.String() != s {
			t.Errorf("%s came back as %s", s, d)
		}
	}
	for _, s := range []string{"", "!", "=1", "a=", "a=x_y", "a@", "@x", "a b", "a><1"} {
		if d, err := ParseDep(s); err == nil {
			t.Errorf("%q is taken for %+v", s, d)
		}
	}
}

func FuzzInstalledDB(f *testing.F) {
	f.Add("C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\nr:b\nq:3\nf:f\ns:edge\nF:etc\nM:0:0:700\nR:x\na:0:0:600\nZ:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nF:\nR:y\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		defer costtest.Text.Watch(t, len(text))()
		db, err := parseInstalled(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := parseInstalled(bytes.NewReader(db.formatInstalled()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, db.formatInstalled())
		}
		if len(again.packages) != len(db.packages) {
			t.Errorf("%d packages became %d", len(db.packages), len(again.packages))
		}
	})
}
