package apk

import (
	"cmp"
	"slices"
)

// A Repository is an index and where it came from.
type Repository struct {
	URL   string // without the architecture's directory, as in /etc/apk/repositories
	Tag   string // "edge" for an "@edge" there: packages are taken from here only where a world entry asks for it
	Index *Index
}

// A Request says what is wanted of Solve.
type Request struct {
	World        []Dep         // what must hold: the base's world with what is to be added
	Repositories []*Repository // in order of preference among equal packages; the first 63 tags count
	Installed    []*Package    // kept in their versions unless World or a dependency needs another
	Arch         string        // packages of other architectures than this and "noarch" are passed over; "" takes all
}

// A Choice is a package that Solve picked.
type Choice struct {
	*Package
	Repository *Repository // where it is to be fetched
	Upgrades   *Package    // the installed package of the same name it takes the place of, or nil
}

// A Solution is how to get from what is installed to what was requested.
type Solution struct {
	Install  []Choice   // in the order in which apk would install them: dependencies first, cycles cut somewhere
	Remove   []*Package // installed packages that nothing needs any longer, or that conflict
	Packages []*Package // everything installed afterwards, by name
}

// Solve finds the set of packages that apk 2.14 would: what World asks for and everything that
// needs, installed packages kept, else the highest version, else the first repository. Like apk it
// deduces and does not search: it may fail on contrived sets of packages that have a solution. The
// error is then, as always, an *Unsatisfiable.
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
