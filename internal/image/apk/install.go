package apk

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"path"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// An Addition is a package to install.
type Addition struct {
	Package *Package    // as in the index, or Control's
	Control *Control    // from File.Control
	Data    io.ReaderAt // the tar that File.DataTar wrote
	Size    int64       // bytes of Data
}

// Changes are changes to a tree's packages.
type Changes struct {
	Add    []Addition // in order; a package with the name of an installed one replaces it
	Remove []*Package // by name and version
	World  []Dep      // the new content of /etc/apk/world; nil leaves it as it is

	// Users and Groups are the ids of accounts that exist in addition to the tree's when packages
	// are unpacked, such as those that pre-install scripts would create.
	Users, Groups map[string]uint32
}

// A Plan is the effect of Changes on a tree: the data tars of the additions, applied in order, and
// then an overlay.
type Plan struct {
	overlay  *tree.Tree
	warnings []string
}

// Warnings returns apk's warnings as sentences, such as about a file that was installed as
// .apk-new.
func (p *Plan) Warnings() []string { return p.warnings }

// WriteOverlay writes a tar to apply after the data tars, with whiteouts and keeping symbolic links
// to directories. Then the tree equals apk's result: the overlay has the apk database and corrects
// differences that the data tars leave.
func (p *Plan) WriteOverlay(w io.Writer) error { return p.overlay.WriteTar(w) }

// Install applies the changes to t, including its database. After an error t may be partly changed.
func Install(t *tree.Tree, c Changes) error {
	plan, err := PlanInstall(t, c)
	if err != nil {
		return err
	}
	for _, a := range c.Add {
		if err := t.ApplyTar(a.Data, a.Size, tree.TarOptions{KeepDirSymlinks: true}); err != nil {
			return fmt.Errorf("install package %s: %w", a.Package.ID(), err)
		}
	}
	var overlay bytes.Buffer
	if err := plan.WriteOverlay(&overlay); err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	err = t.ApplyTar(bytes.NewReader(overlay.Bytes()), int64(overlay.Len()), tree.TarOptions{Whiteouts: true, KeepDirSymlinks: true})
	if err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	return nil
}

// PlanInstall computes the effect of the changes on base, without changing it. It is an error if
// two packages have the same file and neither replaces the other, or if a package has invalid
// entries.
func PlanInstall(base *tree.Tree, c Changes) (*Plan, error) {
	p, err := newPlanner(base)
	if err != nil {
		return nil, fmt.Errorf("plan installation: %w", err)
	}
	p.ids.add(c.Users, c.Groups)
	for _, r := range c.Remove {
		old := p.db.byName(r.Name)
		if old == nil || old.Version != r.Version {
			return nil, fmt.Errorf("plan installation: remove package %s: it is not installed", r.ID())
		}
		p.remove(old)
	}
	for _, a := range c.Add {
		if err := p.add(a); err != nil {
			return nil, fmt.Errorf("plan installation of package %s: %w", a.Package.ID(), err)
		}
	}
	overlay, err := p.overlay(c.World)
	if err != nil {
		return nil, fmt.Errorf("plan installation: %w", err)
	}
	return &Plan{overlay: overlay, warnings: p.warnings}, nil
}

// A planner simulates apk. For each path it records the inode that apk would leave there and the
// one that the data tars alone would leave.
type planner struct {
	base     *tree.Tree
	db       *database
	ids      *idNames
	rules    []protectRule
	before   map[string]acl     // acls of the owned directories in base
	paths    map[string]*change // by path, for every path in a data tar or removed from the base
	gone     map[string]bool    // directories of removed packages
	warnings []string
}

// A change has the inodes of a path: in the base, after the data tars, and as apk would leave it. A
// nil inode means that the path does not exist.
type change struct{ base, applied, want *tree.Inode }

func newPlanner(base *tree.Tree) (*planner, error) {
	db, err := readDatabase(base)
	if err != nil {
		return nil, err
	}
	ids, err := readIDNames(base)
	if err != nil {
		return nil, err
	}
	rules, err := protectRules(base)
	if err != nil {
		return nil, err
	}
	return &planner{base: base, db: db, ids: ids, rules: rules, before: db.dirACLs(),
		paths: map[string]*change{}, gone: map[string]bool{}}, nil
}

// lookup returns what the base has at p, through symbolic links to directories but not through one
// at p itself.
func (p *planner) lookup(name string) *tree.Inode {
	_, dir, err := p.base.Resolve(parentOf(name))
	if err != nil || !dir.IsDir() {
		return nil
	}
	n, _ := dir.Entry(path.Base(name))
	return n
}

// at returns the change of a path. A new one changes nothing.
func (p *planner) at(name string) *change {
	c := p.paths[name]
	if c == nil {
		n := p.lookup(name)
		c = &change{base: n, applied: n, want: n}
		p.paths[name] = c
	}
	return c
}

// add simulates the installation of one package.
func (p *planner) add(a Addition) error {
	if info := a.Control.Package; info.Name != a.Package.Name || info.Version != a.Package.Version {
		return fmt.Errorf("the file is that of %s", info.ID())
	}
	data := tree.New()
	if err := data.ApplyTar(a.Data, a.Size, tree.TarOptions{}); err != nil {
		return err
	}
	list, err := readEntries(a.Data, a.Size, p.ids)
	if err != nil {
		return err
	}
	for _, unknown := range p.ids.takeUnknown() {
		p.warnings = append(p.warnings, fmt.Sprintf("package %s: %s", a.Package.ID(), unknown))
	}
	old := p.db.byName(a.Package.Name)
	pkg := newInstalled(a)
	p.db.packages = append(p.db.packages, pkg)
	for _, e := range list {
		n, ok := data.Lookup(e.path)
		if !ok {
			return fmt.Errorf("entry %q: cannot be read", e.path)
		}
		if err := p.entry(pkg, e, n); err != nil {
			return err
		}
	}
	if old != nil {
		p.remove(old)
	}
	return nil
}

func newInstalled(a Addition) *installedPackage {
	info := *a.Package
	info.Replaces, info.ReplacesPriority = a.Control.Package.Replaces, a.Control.Package.ReplacesPriority
	return &installedPackage{Package: &info, byDir: map[string]*ownedDir{}, triggers: a.Control.Triggers, scripts: a.Control.Scripts}
}

// entry simulates the installation of one entry with the inode n.
func (p *planner) entry(pkg *installedPackage, e dataEntry, n *tree.Inode) error {
	c := p.at(e.path)
	if c.want != nil && !e.isDir && c.want.IsDir() {
		return fmt.Errorf("/%s is a directory already", e.path)
	}
	if e.isDir {
		return p.dirEntry(pkg, e, n, c)
	}
	c.applied = n
	n = p.owned(n, e)
	owner := p.db.files[e.path]
	if owner != nil && owner.owner != pkg {
		switch whoseFile(owner.owner.Package, pkg.Package) {
		case ownersConflict:
			return fmt.Errorf("/%s belongs to package %s, and neither package replaces the other", e.path, owner.owner.ID())
		case oldOwnerKeeps:
			return nil
		}
	}
	file := pkg.addFile(pkg.dir(parentOf(e.path)), path.Base(e.path))
	file.acl = acl{uid: e.uid, gid: e.gid, mode: e.mode, xattrs: e.xattrs}
	file.checksum = e.checksum
	if e.link != "" {
		if target := p.db.files[e.link]; target != nil && target.owner == pkg {
			file.checksum = target.checksum
		}
	}
	p.db.files[e.path] = file
	return p.place(pkg, e.path, c, n, owner, file)
}

// place puts n at a path, unless a local change to a protected file must be kept.
func (p *planner) place(pkg *installedPackage, name string, c *change, n *tree.Inode, owner, file *ownedFile) error {
	if c.want == nil || c.want != c.base || !protects(p.rules, file.dir.path) {
		c.want = n
		return nil
	}
	sum, err := contentChecksum(c.want)
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	switch {
	case owner != nil && owner.checksum == sum:
		c.want = n
	case sum != "" && file.checksum == sum:
		// The same file: the existing one stays.
	default:
		p.at(name + ".apk-new").want = n
		p.warnings = append(p.warnings, fmt.Sprintf("package %s: /%s has local changes, the package's file is installed as /%s.apk-new", pkg.ID(), name, name))
	}
	return nil
}

// owned returns n with the owner that e resolves to.
func (p *planner) owned(n *tree.Inode, e dataEntry) *tree.Inode {
	if n.UID == e.uid && n.GID == e.gid {
		return n
	}
	m := attributes(n)
	m.UID, m.GID = e.uid, e.gid
	return m
}

// dirEntry simulates the installation of a directory. Its mode is decided after all packages are
// added.
func (p *planner) dirEntry(pkg *installedPackage, e dataEntry, n *tree.Inode, c *change) error {
	if c.want != nil && !c.want.IsDir() {
		if _, target, err := p.base.Resolve(e.path); !c.want.IsSymlink() || err != nil || !target.IsDir() {
			return fmt.Errorf("/%s is there already and not a directory", e.path)
		}
	} else {
		c.applied = n
		if c.want == nil {
			c.want = n
		}
	}
	pkg.dir(e.path).acl = acl{uid: e.uid, gid: e.gid, mode: e.mode, xattrs: e.xattrs}
	return nil
}

// remove simulates the removal of a package: the files that it still owns are removed, except
// changed files in protected directories.
func (p *planner) remove(old *installedPackage) {
	p.db.remove(old)
	for _, d := range old.dirs {
		p.gone[d.path] = true
		protected := protects(p.rules, d.path)
		for _, f := range d.files {
			name := f.path()
			if p.db.files[name] != f {
				continue
			}
			delete(p.db.files, name)
			c := p.at(name)
			if c.want == nil || c.want.IsDir() {
				continue
			}
			if sum, err := contentChecksum(c.want); protected && (err != nil || sum != f.checksum) {
				continue
			}
			c.want = nil
		}
	}
}

// contentChecksum returns the checksum that apk records for a file: of its content, or of a
// symbolic link's target.
func contentChecksum(n *tree.Inode) (Checksum, error) {
	h := sha1.New()
	switch {
	case n.IsRegular():
		if _, err := io.Copy(h, n.Content.Open()); err != nil {
			return "", err
		}
	case n.IsSymlink():
		io.WriteString(h, n.Target)
	default:
		return "", nil
	}
	return SHA1Checksum([sha1.Size]byte(h.Sum(nil))), nil
}
