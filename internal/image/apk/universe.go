package apk

import "math/bits"

// A universe is the set of packages that the solver may choose from, linked by name.
type universe struct {
	names map[string]*name
	order []*name // in order of appearance
	byID  map[Checksum]*candidate
	all   []*candidate // in order of appearance: installed, then by repository
	world []edge
	repos []*Repository
	tags  map[string]tagSet // the bit of each repository tag
}

// A tagSet is a set of repository tags.
type tagSet uint64

// defaultTag stands for the repositories without a tag.
const defaultTag tagSet = 1

// A name is the name in a dependency: of a package, or one that packages provide.
type name struct {
	id         string
	kind       nameKind
	providers  []provider
	rdepends   []*name // names, provided ones too, of packages that depend on this one
	rinstallIf []*name // likewise of packages that this one may trigger

	nameState
}

// A nameKind distinguishes names of packages from provided names.
type nameKind int

const (
	packageName  nameKind = iota // only packages of this name provide it
	sharedName                   // other packages provide it too
	providedName                 // only other packages provide it
)

func kindOf(n *name) nameKind {
	others := 0
	for _, p := range n.providers {
		if p.pkg.name != n {
			others++
		}
	}
	switch others {
	case 0:
		return packageName
	case len(n.providers):
		return providedName
	}
	return sharedName
}

// A provider is a package in its role as one of the names it provides; version is that of the name,
// empty for a virtual name without one.
type provider struct {
	pkg     *candidate
	version string
}

// An edge is a dependency with its name looked up.
type edge struct {
	Dep
	to *name
}

// A candidate is a package that may be chosen. The same package, by checksum, in several
// repositories is one candidate.
type candidate struct {
	*Package
	name      *name
	depends   []edge
	provides  []edge
	installIf []edge
	repos     []int // indexes of the repositories that have it, in order
	tags      tagSet
	installed bool

	candidateState
}

func newUniverse(req Request, world []Dep) *universe {
	u := &universe{
		names: map[string]*name{},
		byID:  map[Checksum]*candidate{},
		repos: req.Repositories,
		tags:  map[string]tagSet{"": defaultTag},
	}
	for _, r := range req.Repositories {
		if _, known := u.tags[r.Tag]; !known && len(u.tags) < bits.UintSize-1 {
			u.tags[r.Tag] = 1 << len(u.tags)
		}
	}
	for _, d := range world {
		u.world = append(u.world, edge{d, u.name(d.Name)})
	}
	for _, p := range req.Installed {
		c := u.add(p)
		c.installed = true
		c.tags |= u.tags[p.pinned]
	}
	for i, r := range req.Repositories {
		for _, p := range r.Index.Packages {
			if p.unusable != nil || req.Arch != "" && p.Arch != "" && p.Arch != req.Arch && p.Arch != "noarch" {
				continue
			}
			c := u.add(p)
			c.repos = append(c.repos, i)
			c.tags |= u.tags[r.Tag]
		}
	}
	for _, n := range u.order {
		n.kind = kindOf(n)
		for _, p := range n.providers {
			for _, d := range p.pkg.depends {
				d.to.rdepends = appendOnce(d.to.rdepends, n)
			}
			for _, d := range p.pkg.installIf {
				d.to.rinstallIf = appendOnce(d.to.rinstallIf, n)
			}
		}
	}
	return u
}

func (u *universe) name(id string) *name {
	n := u.names[id]
	if n == nil {
		n = &name{id: id}
		u.names[id] = n
		u.order = append(u.order, n)
	}
	return n
}

func (u *universe) add(p *Package) *candidate {
	if c := u.byID[p.Checksum]; c != nil {
		return c
	}
	c := &candidate{Package: p, name: u.name(p.Name)}
	c.depends, c.provides, c.installIf = u.edges(p.Depends), u.edges(p.Provides), u.edges(p.InstallIf)
	c.name.providers = append(c.name.providers, provider{c, p.Version})
	for _, d := range c.provides {
		d.to.providers = append(d.to.providers, provider{c, d.Version})
	}
	u.byID[p.Checksum] = c
	u.all = append(u.all, c)
	return c
}

func (u *universe) edges(deps []Dep) []edge {
	edges := make([]edge, len(deps))
	for i, d := range deps {
		edges[i] = edge{d, u.name(d.Name)}
	}
	return edges
}

// appendOnce appends n unless it is the last element. An existing n is always the last, since the
// lists are built name by name.
func appendOnce(list []*name, n *name) []*name {
	if len(list) > 0 && list[len(list)-1] == n {
		return list
	}
	return append(list, n)
}

// accepts reports whether p satisfies e, a dependency of from (nil for the world). The zero
// provider satisfies conflicts.
func (e edge) accepts(from *candidate, p provider) bool {
	if p.pkg == nil {
		return e.Conflict
	}
	if e.Conflict && p.pkg == from {
		return true
	}
	return e.Dep.accepts(p.pkg.Package, p.version)
}
