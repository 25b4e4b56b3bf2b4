package apk

// A Link is one step of the chain from the world to a package.
type Link struct {
	Package *Package
	Reason  Dep  // requires the package: an entry of the world, a dependency of the previous link, or its own install_if
	If      bool // Reason is the package's own install_if: the previous link triggers it
}

// Why returns the shortest chain of dependencies to a package from each entry of the world that
// leads to it. packages are all installed packages. The result is empty for a package that no other
// needs, such as a package of the base image that is not in its world.
func Why(world []Dep, packages []*Package, name string) [][]Link {
	var out [][]Link
	for _, entry := range world {
		if chain := chainTo(entry, packages, name); chain != nil {
			out = append(out, chain)
		}
	}
	return out
}

// chainTo looks for a package breadth first.
func chainTo(entry Dep, packages []*Package, name string) []Link {
	before := map[*Package]*Package{}
	links := map[*Package]Link{}
	var queue []*Package
	reach := func(from, p *Package, l Link) {
		if _, seen := links[p]; seen {
			return
		}
		links[p], before[p] = l, from
		queue = append(queue, p)
	}
	for _, p := range packages {
		if !entry.Conflict && entry.satisfiedBy(p) {
			reach(nil, p, Link{p, entry, false})
		}
	}
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		if from.Name == name {
			var chain []Link
			for p := from; p != nil; p = before[p] {
				chain = append([]Link{links[p]}, chain...)
			}
			return chain
		}
		for _, p := range packages {
			if dep, ok := needs(from, p); ok {
				reach(from, p, Link{p, dep, false})
			} else if dep, ok := comesWith(p, from); ok {
				reach(from, p, Link{p, dep, true})
			}
		}
	}
	return nil
}

func needs(from, p *Package) (Dep, bool) {
	for _, dep := range from.Depends {
		if !dep.Conflict && dep.satisfiedBy(p) {
			return dep, true
		}
	}
	return Dep{}, false
}

// comesWith reports whether a package's install_if names another.
func comesWith(p, from *Package) (Dep, bool) {
	for _, dep := range p.InstallIf {
		if !dep.Conflict && dep.satisfiedBy(from) {
			return dep, true
		}
	}
	return Dep{}, false
}

// satisfiedBy reports whether a package satisfies a dependency, by its name or by a name that it
// provides.
func (d Dep) satisfiedBy(p *Package) bool {
	if d.Name == p.Name && d.accepts(p, p.Version) {
		return true
	}
	for _, provided := range p.Provides {
		if provided.Name == d.Name && d.accepts(p, provided.Version) {
			return true
		}
	}
	return false
}
