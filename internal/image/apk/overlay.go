package apk

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// whiteoutPrefix marks, in a container layer, the name after it as removed (OCI image-spec,
// layer.md, "Whiteouts").
const whiteoutPrefix = ".wh."

// overlay returns the tree to apply after base and data tars.
func (p *planner) overlay(world []Dep) (*tree.Tree, error) {
	acls := p.db.dirACLs()
	p.settleDirs(acls)
	p.dropEmptyDirs(acls)
	out := tree.New()
	from, root := p.base.Root(), out.Root()
	root.Mode, root.UID, root.GID, root.ModTime, root.Xattrs = from.Mode, from.UID, from.GID, from.ModTime, from.Xattrs
	for _, name := range slices.Sorted(maps.Keys(p.paths)) {
		c := p.paths[name]
		var err error
		switch {
		case c.want == c.applied:
		case c.want == nil:
			if p.standsIn(path.Dir(name)) {
				err = p.put(out, path.Join(parentOf(name), whiteoutPrefix+path.Base(name)), &tree.Inode{Mode: tree.S_IFREG})
			}
		default:
			err = p.put(out, name, attributes(c.want))
		}
		if err != nil {
			return nil, err
		}
	}
	return out, p.putDatabase(out, world)
}

// settleDirs decides the owner and mode of each directory of a package. A directory of the base
// keeps them if they were changed, or if it did not belong to a package.
func (p *planner) settleDirs(acls map[string]acl) {
	for name, c := range p.paths {
		a, owned := acls[name]
		if !owned || c.want == nil || !c.want.IsDir() {
			continue
		}
		want := attributes(c.applied)
		if c.base != nil && c.base.IsDir() {
			was, known := p.before[name]
			if !known || was.uid != c.base.UID || was.gid != c.base.GID || was.mode != c.base.Mode&0o7777 {
				a = acl{uid: c.base.UID, gid: c.base.GID, mode: c.base.Mode & 0o7777}
			}
		}
		want.Mode, want.UID, want.GID = tree.S_IFDIR|a.mode, a.uid, a.gid
		c.want = want
		if want.Mode == c.applied.Mode && want.UID == c.applied.UID && want.GID == c.applied.GID {
			c.want = c.applied
		}
	}
}

// dropEmptyDirs removes the empty directories of removed packages that do not belong to another
// package.
func (p *planner) dropEmptyDirs(acls map[string]acl) {
	filled := map[string]bool{} // directories with files of packages
	for name, c := range p.paths {
		if c.want != nil && c.want != c.base {
			filled[parentOf(name)] = true
		}
	}
	dirs := slices.Sorted(maps.Keys(p.gone))
	slices.Reverse(dirs) // children before parents
	for _, name := range dirs {
		if _, owned := acls[name]; owned || name == "" || filled[name] {
			continue
		}
		c := p.at(name)
		if c.want != nil && c.want.IsDir() && !slices.ContainsFunc(c.want.Entries(), func(e tree.Dirent) bool {
			inside := p.paths[path.Join(name, e.Name)]
			return inside == nil || inside.want != nil
		}) {
			c.want = nil
		}
	}
}

// standsIn reports whether the directory dir stays, so that entries in it must be removed one by
// one.
func (p *planner) standsIn(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if c := p.paths[dir]; c != nil && c.want == nil {
			return false
		}
	}
	return true
}

// put adds n to out, with its parent directories in their final state.
func (p *planner) put(out *tree.Tree, name string, n *tree.Inode) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		if _, ok := out.Lookup(dir); ok {
			continue
		}
		d := p.lookup(dir)
		if c := p.paths[dir]; c != nil {
			d = c.want
		}
		if d == nil || !d.IsDir() { // a link to a directory stays in any case
			d = &tree.Inode{Mode: tree.S_IFDIR | 0o755, ModTime: time.Unix(0, 0)}
		}
		if err := out.Put(dir, attributes(d)); err != nil {
			return err
		}
	}
	if n.IsDir() {
		if _, ok := out.Lookup(name); ok {
			return nil
		}
	}
	return out.Put(name, n)
}

// putDatabase adds apk's files.
func (p *planner) putDatabase(out *tree.Tree, world []Dep) error {
	scripts, err := p.db.formatScripts()
	if err != nil {
		return fmt.Errorf("write %s: %w", p.db.under+scriptsPath, err)
	}
	files := map[string][]byte{
		p.db.under + installedPath: p.db.formatInstalled(),
		p.db.under + scriptsPath:   scripts,
		p.db.under + triggersPath:  p.db.formatTriggers(),
	}
	if world != nil {
		files[worldPath] = formatWorld(world)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		n := &tree.Inode{Mode: tree.S_IFREG | 0o644, ModTime: time.Unix(0, 0)}
		if old := p.lookup(name); old != nil && old.IsRegular() {
			n = attributes(old)
		}
		n.Content = tree.Bytes(files[name])
		if err := p.put(out, name, n); err != nil {
			return err
		}
	}
	return nil
}

// attributes returns a copy of n outside any tree. The copy of a directory has no entries.
func attributes(n *tree.Inode) *tree.Inode {
	return &tree.Inode{Mode: n.Mode, UID: n.UID, GID: n.GID, ModTime: n.ModTime, Xattrs: n.Xattrs,
		Target: n.Target, Major: n.Major, Minor: n.Minor, Content: n.Content}
}
