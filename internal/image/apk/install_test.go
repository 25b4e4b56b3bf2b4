package apk

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A testPkg is a package made for a test.
type testPkg struct {
	name, version string
	info          string // further lines of .PKGINFO
	scripts       map[string]string
	files         []tarEntry
}

func (p testPkg) build(t testing.TB) []byte {
	return buildPackage(t, fmt.Sprintf(`# made for a test
pkgname = %s
pkgver = %s
pkgdesc = Test package %s
url = https://example.org/
builddate = 1700000000
packager = A Tester <t@example.org>
size = 4096
arch = x86_64
license = MIT
%s`, p.name, p.version, p.name, p.info), p.scripts, p.files...)
}

func capability(f testFile) tarEntry {
	e := f.entry()
	e.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	return e
}

func ownedBy(user, group string, f testFile) tarEntry {
	e := f.entry()
	e.Uname, e.Gname = user, group
	return e
}

// installCases install packages into the Alpine root file system, once with apk and once with
// Install.
var installCases = []struct {
	name     string
	prepare  []testFile // changes to the base before the installation
	packages []testPkg
	world    []string // one apk add after the other
}{
	{
		name:  "every kind of entry",
		world: []string{"files"},
		packages: []testPkg{{
			name: "files", version: "1.0-r0",
			info: "origin = src\ncommit = 0123abcd\nmaintainer = M <m@example.org>\ntriggers = /opt /usr/*\n" +
				"replaces = other>1 more\nreplaces_priority = 5\nprovider_priority = 7\nprovides = so:files.so.1=1.2 cmd:files\n",
			scripts: map[string]string{"trigger": "#!/bin/sh\n", "post-install": "#!/bin/sh\nexit 1\n"},
			files: append(entries("opt/", "700|opt/d/", "opt/d/f: hello", "opt/l -> d/f", "600|opt/h: hard", "600|opt/h2 => opt/h",
				"4755|opt/suid: s", "5.7|opt/owned: o", "top: level", "1777|opt/tmp/", "opt/empty: "),
				capability("755|opt/cap: c"), ownedBy("postgres", "nogroup", "5.5|opt/named: n"), ownedBy("nobody", "nosuch", "5.5|opt/named2: n")),
		}},
	},
	{
		name:    "protected configuration",
		prepare: []testFile{"etc/mine.conf: local", "etc/same.conf: same", "700|unowned/", "opt/plain: local"},
		world:   []string{"conf"},
		packages: []testPkg{{name: "conf", version: "1.0-r0", files: entries("etc/", "etc/mine.conf: theirs", "etc/same.conf: same",
			"etc/new.conf: new", "unowned/", "unowned/f: x", "opt/", "opt/plain: theirs")}},
	},
	{
		name:  "directories of several packages",
		world: []string{"b a Z"},
		packages: []testPkg{
			{name: "a", version: "1", info: "depend = b", files: entries("755|shared/", "shared/a: a", "700|x/", "3.3|y/")},
			{name: "b", version: "1", files: entries("700|shared/", "shared/b: b", "755|x/", "2.2|y/", "755|var/", "755|var/empty/")},
			{name: "Z", version: "1", info: "depend = a", files: entries("750|shared/", "shared/z: z", "4.4|y/")},
		},
	},
	{
		name:  "replaces and origins",
		world: []string{"old", "old new"},
		packages: []testPkg{
			{name: "old", version: "1", info: "origin = one", files: entries("opt/", "opt/x: old", "opt/y: old")},
			{name: "new", version: "1", info: "replaces = old\ndepend = sub", files: entries("opt/", "opt/x: new")},
			{name: "sub", version: "1", info: "origin = one", files: entries("opt/", "opt/y: sub", "opt/z: sub")},
		},
	},
	{
		name:  "replacement with the lower priority keeps off",
		world: []string{"strong weak"},
		packages: []testPkg{
			{name: "strong", version: "1", info: "replaces = weak\nreplaces_priority = 3", files: entries("opt/", "opt/x: strong")},
			{name: "weak", version: "1", info: "replaces = strong\nreplaces_priority = 2\ndepend = strong", files: entries("opt/", "opt/x: weak", "opt/w: weak")},
		},
	},
	{
		name:  "upgrade and removal",
		world: []string{"app=1 tool", "app=2", "app=2 !tool"},
		packages: []testPkg{
			{name: "app", version: "1", scripts: map[string]string{"post-install": "#!/bin/sh\n"},
				files: entries("opt/", "opt/app/", "opt/app/gone/", "opt/app/gone/f: 1", "opt/app/kept: 1", "etc/", "etc/app.conf: 1", "700|srv/", "700|srv/one/")},
			{name: "app", version: "2", files: entries("opt/", "opt/app/", "opt/app/kept: 2", "opt/app/new: 2", "etc/", "etc/app.conf: 2", "755|srv/")},
			{name: "tool", version: "1", files: entries("usr/", "usr/bin/", "755|usr/bin/tool: t", "opt/", "opt/app/", "opt/app/tool: t")},
		},
	},
}

func TestInstallAgainstAPK(t *testing.T) {
	newOracle(t)
	for _, tc := range installCases {
		t.Run(tc.name, func(t *testing.T) {
			root := alpineRoot(t, tc.prepare)
			ours := diskTree(t, root)
			repo := filepath.Join(root, "repo/x86_64")
			files := map[string][]byte{}
			var names []string
			for _, p := range tc.packages {
				name := p.name + "-" + p.version + ".apk"
				files[name] = p.build(t)
				writeFile(t, filepath.Join(repo, name), files[name])
				names = append(names, "/repo/x86_64/"+name)
			}
			mustAPK(t, root, append([]string{"index", "--allow-untrusted", "--no-warnings", "--rewrite-arch", "x86_64", "-o", "/repo/x86_64/APKINDEX.tar.gz"}, names...)...)
			index := readIndexFile(t, filepath.Join(repo, "APKINDEX.tar.gz"))
			for _, world := range tc.world {
				mustAPK(t, root, append([]string{"add", "--no-scripts", "--allow-untrusted", "--no-network", "-X", "/repo",
					"--repositories-file", "/etc/apk/none"}, strings.Fields(world)...)...)
				installWorld(t, ours, index, files, world)
				compareWithDisk(t, ours, root)
			}
			auditOurs(t, ours)
		})
	}
}

// alpineRoot extracts the minirootfs to disk, changes it and returns its directory.
func alpineRoot(t *testing.T, prepare []testFile) string {
	root := t.TempDir()
	if err := extract(fixture(t, minirootfsAMD64), root); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(root, "etc/apk/none"), nil)
	for _, f := range prepare {
		e := f.entry()
		p := filepath.Join(root, e.Name)
		if e.Typeflag == tar.TypeDir {
			if err := os.Mkdir(p, os.FileMode(e.Mode)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		writeFile(t, p, []byte(e.body))
	}
	return root
}

func writeFile(t testing.TB, p string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustAPK(t testing.TB, root string, args ...string) string {
	t.Helper()
	out, err := runAPK(root, args...)
	if err != nil {
		t.Fatalf("apk %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func readIndexFile(t testing.TB, p string) *Index {
	t.Helper()
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := ReadIndex(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// diskTree reads a directory into a tree, through tar.
func diskTree(t testing.TB, root string) *tree.Tree {
	t.Helper()
	cmd := exec.Command("tar", "-C", root, "--xattrs", "--xattrs-include=*", "--exclude=./repo", "--exclude=./proc/*", "--format=pax", "-cf", "-", ".")
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		t.Fatalf("tar: %v: %s", err, diag.String())
	}
	tr := tree.New()
	if err := tr.ApplyTar(bytes.NewReader(out.Bytes()), int64(out.Len()), tree.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	return tr
}

// installWorld does the work of `apk add WORLD` with Solve and Install.
func installWorld(t testing.TB, tr *tree.Tree, index *Index, files map[string][]byte, add string) {
	t.Helper()
	world, err := World(tr)
	if err != nil {
		t.Fatal(err)
	}
	more, err := ParseDeps(add)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range more {
		world = append(slices.DeleteFunc(world, func(w Dep) bool { return w.Name == d.Name }), d)
	}
	installed, err := Installed(tr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Solve(Request{World: world, Installed: installed, Repositories: []*Repository{{Index: index}}})
	if err != nil {
		t.Fatal(err)
	}
	c := Changes{World: world, Remove: s.Remove}
	for _, choice := range s.Install {
		c.Add = append(c.Add, addition(t, choice.Package, files[choice.Filename()]))
	}
	if err := Install(tr, c); err != nil {
		t.Fatal(err)
	}
}

// addition opens and verifies a package's file.
func addition(t testing.TB, p *Package, file []byte) Addition {
	t.Helper()
	f, err := OpenPackage(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(nil, p.Checksum); err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if err := f.DataTar(&data); err != nil {
		t.Fatal(err)
	}
	return Addition{Package: p, Control: f.Control(), Data: bytes.NewReader(data.Bytes()), Size: int64(data.Len())}
}

// compareWithDisk compares our tree with apk's, except for times of directories and links, and
// apk's own files.
func compareWithDisk(t *testing.T, ours *tree.Tree, root string) {
	t.Helper()
	for _, name := range []string{installedPath, triggersPath, worldPath} {
		want, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := readFile(ours, name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs:\n%s", name, textDiff(t, want, got))
		}
	}
	theirs := diskTree(t, root)
	compareScripts(t, ours, theirs)
	changes, err := tree.Diff(theirs, ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		c.What = slices.DeleteFunc(c.What, func(w string) bool { return w == "time" })
		own := strings.HasPrefix(c.Path, "lib/apk/db/") || strings.HasPrefix(c.Path, "var/cache/apk") || strings.HasPrefix(c.Path, "run/")
		if c.Kind == "changed" && len(c.What) == 0 || own {
			continue
		}
		t.Errorf("/%s: %s in our tree: %v", c.Path, c.Kind, c.What)
	}
}

func compareScripts(t *testing.T, ours, theirs *tree.Tree) {
	t.Helper()
	list := func(tr *tree.Tree) string {
		text, err := readFile(tr, scriptsPath)
		if err != nil {
			t.Fatal(err)
		}
		var lines strings.Builder
		r := tar.NewReader(bytes.NewReader(text))
		for {
			h, err := r.Next()
			if err != nil {
				return lines.String()
			}
			fmt.Fprintf(&lines, "%s %o %d:%d %d %s\n", h.Name, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UTC().Format(time.RFC3339))
		}
	}
	if got, want := list(ours), list(theirs); got != want {
		t.Errorf("scripts.tar: got\n%swant\n%s", got, want)
	}
}

func textDiff(t testing.TB, want, got []byte) string {
	dir := t.TempDir()
	writeFile(t, dir+"/apk", want)
	writeFile(t, dir+"/ours", got)
	out, _ := exec.Command("diff", "-u", dir+"/apk", dir+"/ours").CombinedOutput()
	return string(out)
}

// auditOurs writes our tree to disk and runs the real apk's audit on it.
func auditOurs(t *testing.T, ours *tree.Tree) {
	t.Helper()
	root := t.TempDir()
	cmd := exec.Command("tar", "-C", root, "--xattrs", "--xattrs-include=*", "-xpf", "-")
	var buf bytes.Buffer
	if err := ours.WriteTar(&buf); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = &buf
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if out := mustAPK(t, root, "audit", "--system"); out != "" {
		t.Errorf("apk audit --system: %s", out)
	}
	installed, err := Installed(ours)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range installed {
		want = append(want, p.ID())
	}
	got := strings.Fields(mustAPK(t, root, "info", "-v", "--no-network", "--repositories-file", "/etc/apk/none"))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("apk info -v: got %v, want %v", got, want)
	}
	db, err := readDatabase(ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range db.packages {
		if !strings.HasPrefix(p.Description, "Test package") {
			continue
		}
		for _, d := range p.dirs {
			for _, f := range d.files {
				out := mustAPK(t, root, "info", "-W", "/"+f.path(), "--no-network", "--repositories-file", "/etc/apk/none")
				if !strings.Contains(out, "is owned by "+p.ID()) {
					t.Errorf("apk info -W /%s: %s", f.path(), out)
				}
			}
		}
	}
}
