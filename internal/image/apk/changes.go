package apk

import (
	"cmp"
	"slices"
	"strings"
)

// nameChange is the state of a name while changes are collected.
type nameChange struct {
	planned     bool
	installed   *candidate // the package of this name
	installedAs *name      // the name of the installed package that provides this one with a version
	requirers   int        // of installedAs, among the installed packages
}

// changes collects, after every name is decided, the packages to install, upgrade and remove, in
// apk's order: dependencies before a package, packages that it triggers after it.
type changes struct {
	*solver
	install []Choice
	remove  []*Package
}

func (s *solver) changes() *changes {
	c := &changes{solver: s}
	var installed []*candidate
	for _, p := range s.all {
		if !p.installed {
			continue
		}
		installed = append(installed, p)
		p.name.change.installed, p.name.change.installedAs = p, p.name
		for _, e := range p.provides {
			if e.Version != "" {
				e.to.change.installedAs = p.name
			}
		}
	}
	for _, p := range installed {
		c.trackRequirers(p, +1)
	}
	for _, p := range installed {
		if p.name.change.requirers == 0 && p.name.chosen.pkg == nil {
			c.removePackage(p)
		}
	}
	for _, e := range s.world {
		c.planDepend(nil, e)
	}
	for _, p := range installed {
		c.planName(p.name)
	}
	return c
}

// planDepend plans the changes for e, a dependency of from.
func (c *changes) planDepend(from *candidate, e edge) {
	if !e.accepts(from, e.to.chosen) {
		c.markBroken(from)
		c.failed = true
	}
	c.planName(e.to)
	if p := e.to.chosen.pkg; p != nil && p.broken {
		c.markBroken(from)
	}
}

// planName plans the change from the installed to the chosen provider of n.
func (c *changes) planName(n *name) {
	if n.change.planned {
		return
	}
	c.removeOrphan(n)
	p := n.chosen.pkg
	if p == nil || p.planned {
		return
	}
	p.planned = true
	c.removeOrphan(p.name)
	for _, e := range p.provides {
		c.removeOrphan(e.to)
	}
	old := p.name.change.installed
	if old != nil {
		old.eachTriggered(c.removeUntriggered)
	}
	for _, e := range p.depends {
		c.planDepend(p, e)
	}
	c.record(old, p)
	p.eachTriggered(c.planTriggered)
	c.trackRequirers(p, +1)
	if old != nil {
		c.dropRequirers(old)
	}
}

// eachTriggered calls fn for the names of the packages that c may trigger, under any of its names.
func (c *candidate) eachTriggered(fn func(*name)) {
	for _, n := range c.name.rinstallIf {
		fn(n)
	}
	for _, e := range c.provides {
		for _, n := range e.to.rinstallIf {
			fn(n)
		}
	}
}

func (c *changes) record(old, p *candidate) {
	if old == p || len(p.repos) == 0 {
		return // unchanged
	}
	choice := Choice{Package: p.Package, Repository: c.universe.repos[p.repos[0]]}
	if old != nil {
		choice.Upgrades = old.Package
	}
	c.install = append(c.install, choice)
}

// planTriggered plans the package n, which a package just planned may trigger, if all its
// conditions are planned.
func (c *changes) planTriggered(n *name) {
	p := n.chosen.pkg
	if p == nil || !n.discovered || n.change.planned {
		return
	}
	for _, e := range p.installIf {
		if !e.to.change.planned || !e.accepts(p, e.to.chosen) {
			return
		}
	}
	c.planName(n)
}

// removeOrphan marks n as planned and removes the installed package of that name if another one
// takes over the name.
func (c *changes) removeOrphan(n *name) {
	if n.change.planned {
		return
	}
	n.change.planned = true
	p := n.chosen.pkg
	if (p == nil || p.name != n) && n.change.installed != nil {
		c.removePackage(n.change.installed)
	}
}

// removePackage plans the removal of p and of the installed packages that depend on it.
func (c *changes) removePackage(p *candidate) {
	if p.planned || p.name.chosen.pkg != nil && p.name.chosen.pkg.name == p.name {
		return
	}
	p.planned = true
	p.name.change.planned = true
	c.removeDependents(p, p.name)
	for _, e := range p.provides {
		c.removeDependents(p, e.to)
	}
	p.eachTriggered(c.removeUntriggered)
	c.remove = append(c.remove, p.Package)
	c.dropRequirers(p)
}

// removeDependents removes the installed packages that depend on p under the name n.
func (c *changes) removeDependents(p *candidate, n *name) {
	for _, r := range n.rdepends {
		for _, user := range r.providers {
			if !user.pkg.installed {
				continue
			}
			for _, e := range user.pkg.depends {
				if !e.Conflict && providesFor(p, e) {
					c.removePackage(user.pkg)
				}
			}
		}
	}
}

// providesFor reports whether p satisfies e.
func providesFor(p *candidate, e edge) bool {
	if e.to == p.name {
		return e.Dep.accepts(p.Package, p.Version)
	}
	for _, d := range p.provides {
		if d.to == e.to {
			return e.Dep.accepts(p.Package, d.Version)
		}
	}
	return false
}

// removeUntriggered removes the installed package n if a package that triggered it is removed.
func (c *changes) removeUntriggered(n *name) {
	p := n.change.installed
	if p == nil || n.change.planned || n.chosen.pkg != nil {
		return
	}
	for _, e := range p.installIf {
		if e.to.change.planned && e.to.chosen.pkg == nil {
			if n.change.requirers == 0 {
				c.removePackage(p)
			}
			return
		}
	}
}

// trackRequirers counts p's dependencies on installed packages.
func (c *changes) trackRequirers(p *candidate, by int) {
	for _, e := range p.depends {
		if as := e.to.change.installedAs; !e.Conflict && as != nil {
			as.change.requirers += by
		}
	}
}

// dropRequirers subtracts the counts of p, which is removed, and removes packages that no package
// requires any more.
func (c *changes) dropRequirers(p *candidate) {
	for _, e := range p.depends {
		as := e.to.change.installedAs
		if e.Conflict || as == nil {
			continue
		}
		as.change.requirers--
		if as.change.requirers <= 0 && e.to.change.installed != nil {
			c.removePackage(e.to.change.installed)
		}
	}
}

// solution returns the collected changes.
func (c *changes) solution() *Solution {
	sol := &Solution{Install: c.install, Remove: c.remove}
	for _, p := range c.all {
		if p.planned && p.name.chosen.pkg == p {
			sol.Packages = append(sol.Packages, p.Package)
		}
	}
	slices.SortFunc(sol.Packages, compareForDisplay)
	return sol
}

// compareForDisplay orders packages as apk lists them: by name without regard to case, then by
// version.
func compareForDisplay(a, b *Package) int {
	return cmp.Or(
		strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
		strings.Compare(a.Name, b.Name),
		CompareVersions(a.Version, b.Version),
	)
}
