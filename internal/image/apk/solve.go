package apk

import (
	"cmp"
	"slices"
)

// A Repository is an index and where it came from.
type Repository struct {
	URL   string // without the architecture's directory, as in /etc/apk/repositories
	Tag   string // "edge" for an "@edge" there: packages of this repository are used only for world entries with the tag
	Index *Index
}

// A Request is the input of Solve.
type Request struct {
	World        []Dep         // the requirements: the base's world and the packages to add
	Repositories []*Repository // in order of preference among equal packages; the first 63 tags count
	Installed    []*Package    // kept in their versions unless World or a dependency needs another
	Arch         string        // packages of other architectures than this and "noarch" are ignored; "" accepts all
}

// A Choice is a package that Solve picked.
type Choice struct {
	*Package
	Repository *Repository // the repository to fetch it from
	Upgrades   *Package    // the installed package that it replaces, or nil
}

// A Solution lists the changes from the installed packages to the request.
type Solution struct {
	Install  []Choice   // in apk's order: dependencies first, except in cycles
	Remove   []*Package // installed packages that no package needs any more, or that conflict
	Packages []*Package // all installed packages afterwards, by name
}

// Solve finds the same set of packages as apk 2.14: the packages in World and their dependencies.
// It prefers installed packages, then the highest version, then the first repository. Like apk it
// does not search: for contrived sets of packages it may not find an existing solution. The error
// is always an *Unsatisfiable.
func Solve(req Request) (*Solution, error) {
	world := slices.Clone(req.World)
	slices.SortStableFunc(world, func(a, b Dep) int { return cmp.Compare(a.Name, b.Name) })

	u := newUniverse(req, world)
	s := &solver{universe: u}
	s.choose()
	c := s.changes()
	if s.failed {
		return nil, u.explain()
	}
	return c.solution(), nil
}
