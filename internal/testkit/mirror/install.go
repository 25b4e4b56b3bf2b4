package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// This file installs packages into images. It is not a package manager: files of these packages do
// not conflict with files of the base or of each other, and scripts are not run.

// fileModes maps the types of packaged files to modes in a tree.
var fileModes = map[apkbuild.Type]uint32{
	apkbuild.Regular: tree.S_IFREG, apkbuild.Symlink: tree.S_IFLNK, apkbuild.Directory: tree.S_IFDIR,
}

// install adds the packages' files to the tree to. It writes to's database of installed packages:
// the database of the tree from, plus the packages. entries are their index entries by name.
func install(from, to *tree.Tree, entries map[string]apkbuild.Entry, packages []*apkbuild.Package) error {
	database, err := readFile(from, "lib/apk/db/installed")
	if err != nil {
		return fmt.Errorf("read the base's package database: %w", err)
	}
	for _, p := range packages {
		if err := putFiles(to, p.Files); err != nil {
			return fmt.Errorf("install %s: %w", p.Name, err)
		}
		stanza, err := p.Installed(entries[p.Name])
		if err != nil {
			return err
		}
		database += stanza
	}
	return putFile(to, "lib/apk/db/installed", database)
}

func putFiles(t *tree.Tree, files []apkbuild.File) error {
	for _, f := range files {
		if f.Type == apkbuild.HardLink {
			continue
		}
		mode, ok := fileModes[f.Type]
		if !ok {
			return fmt.Errorf("%s is of a type that no package here has", f.Name)
		}
		n := &tree.Inode{
			Mode: mode | uint32(f.Mode), UID: uint32(f.UID), GID: uint32(f.GID), ModTime: f.ModTime,
			Xattrs: maps.Clone(f.Xattrs), Target: f.Target,
		}
		if f.Type == apkbuild.Regular {
			n.Content = tree.Bytes(f.Data)
		}
		if err := t.Put(f.Name, n); err != nil {
			return err
		}
	}
	for _, f := range files {
		if f.Type == apkbuild.HardLink {
			if err := t.Link(f.Target, f.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// addWorld writes /etc/apk/world of the tree to: the world of the tree from, with names added.
func addWorld(from, to *tree.Tree, names ...string) error {
	text, err := readFile(from, "etc/apk/world")
	if err != nil {
		return fmt.Errorf("read the base's world: %w", err)
	}
	world := slices.Compact(slices.Sorted(slices.Values(append(strings.Fields(text), names...))))
	return putFile(to, "etc/apk/world", strings.Join(world, "\n")+"\n")
}

// withDependencies returns the named packages and everything in packages that they depend on. The
// base has the other dependencies (a shell).
func withDependencies(packages []*apkbuild.Package, names ...string) []*apkbuild.Package {
	providers := map[string]*apkbuild.Package{}
	for _, p := range packages {
		for _, name := range append([]string{p.Name}, p.Provides...) {
			providers[bareName(name)] = p
		}
	}
	// Alpine's base already has a shell.
	delete(providers, "/bin/sh")
	var chosen []*apkbuild.Package
	for queue := names; len(queue) > 0; queue = queue[1:] {
		if p := providers[bareName(queue[0])]; p != nil && !slices.Contains(chosen, p) {
			chosen = append(chosen, p)
			queue = append(queue, p.Depends...)
		}
	}
	return chosen
}

// bareName returns the name of a dependency or provision without its version.
func bareName(dep string) string {
	name, _, _ := strings.Cut(dep, "=")
	return name
}

// addUser adds the user that PostgreSQL's script would add.
func addUser(from, to *tree.Tree) error {
	for _, account := range []struct{ file, line string }{
		{"etc/passwd", "postgres:x:70:70:PostgreSQL:/var/lib/postgresql:/bin/sh\n"},
		{"etc/group", "postgres:x:70:\n"},
		{"etc/shadow", "postgres:!::0:::::\n"},
	} {
		text, err := readFile(from, account.file)
		if err != nil {
			return fmt.Errorf("add user postgres: %w", err)
		}
		_, n, err := from.Resolve(account.file)
		if err != nil {
			return fmt.Errorf("add user postgres: %w", err)
		}
		err = to.Put(account.file, &tree.Inode{Mode: n.Mode, UID: n.UID, GID: n.GID, Content: tree.Bytes([]byte(text + account.line))})
		if err != nil {
			return fmt.Errorf("add user postgres: %w", err)
		}
	}
	return nil
}
