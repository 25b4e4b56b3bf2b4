package apk

// The solver uses apk's algorithm, so that it finds the same set. It does not backtrack. It deduces
// as long as possible before it chooses: a requirement excludes the packages that do not match;
// packages with unsatisfiable dependencies are excluded in turn; dependencies that all remaining
// candidates of a required name share are required too. When no more conclusions follow, it decides
// one name and deduces again.
type solver struct {
	*universe
	dirty      []*name // to be reconsidered, first in first out
	unresolved []*name // required or triggered, but not decided; the newest last
	inherited  tagSet  // tags of the world entry being applied
	failed     bool
}

// nameState is the solver's state of a name.
type nameState struct {
	discovered bool
	depth      int // the longest chain of dependencies below
	requirers  int // how many dependencies name it

	decided bool
	chosen  provider // if decided; none if its pkg is nil

	inDirty, inUnresolved bool
	checkDepends          bool // some dependency of a provider changed
	checkTriggers         bool // some install_if condition of a provider changed

	triggered      bool // some provider's install_if holds
	neverTriggered bool // no provider's install_if can hold any more
	openChoice     bool // several packages could provide it
	parentsDecided bool // all names that depend on it are decided

	// While a name is reconsidered, these count how many of its candidates depend on this name, or
	// provide it.
	sharedDepend, sharedProvide int
	sharedVirtual               bool // some candidate provides it without a version

	change nameChange
}

// candidateState is the solver's state of a package.
type candidateState struct {
	discovered   bool
	depth        int
	selectable   bool // not ruled out
	tagAllowed   bool // from a repository whose tag is allowed
	tagPreferred bool // from a repository with the tag asked for
	allowedTags  tagSet
	misfits      int  // dependencies it does not satisfy
	triggered    bool // its install_if holds
	untriggered  bool // its install_if cannot hold any more, or it has none
	merged, used bool // counted in this, in the last, consideration of a name
	broken       bool // chosen, but against its or another's dependencies
	planned      bool // its change is recorded
}

// choose decides every name that is reachable from the world.
func (s *solver) choose() {
	for _, e := range s.world {
		s.discover(e.to)
	}
	for _, e := range s.world {
		s.inherited = s.tags[e.Tag]
		s.require(nil, e)
	}
	for {
		for len(s.dirty) > 0 {
			n := s.dirty[0]
			s.dirty = s.dirty[1:]
			if n.inDirty {
				n.inDirty = false
				s.reconsider(n)
			}
		}
		n := s.nextUndecided()
		if n == nil {
			return
		}
		s.decide(n)
	}
}

// discover prepares n, its providers and everything reachable from them.
func (s *solver) discover(n *name) {
	if n.discovered {
		return
	}
	n.discovered, n.neverTriggered = true, true
	for _, p := range n.providers {
		c := p.pkg
		if !c.discovered {
			c.discovered = true
			c.selectable = true
			c.untriggered = len(c.installIf) == 0
			c.allowedTags = defaultTag
			c.tagPreferred = c.InstalledSize == 0 || c.tags&defaultTag != 0
			c.tagAllowed = c.tagPreferred || c.installed
			for _, e := range c.depends {
				s.discover(e.to)
				c.depth = max(c.depth, e.to.depth+1)
			}
		}
		n.neverTriggered = n.neverTriggered && c.untriggered
		n.depth = max(n.depth, c.depth)
	}
	for _, r := range n.rinstallIf {
		s.discover(r)
	}
	for _, p := range n.providers {
		p.pkg.eachTriggered(s.discover)
	}
}

func (s *solver) queueDirty(n *name) {
	if !n.inDirty && !n.decided && (n.requirers > 0 || n.checkTriggers) {
		n.inDirty = true
		s.dirty = append(s.dirty, n)
	}
}

func (s *solver) queueUnresolved(n *name) {
	if n.decided {
		return
	}
	want := n.requirers > 0 || n.triggered
	if want && !n.inUnresolved {
		s.unresolved = append(s.unresolved, n)
	} else if !want && n.inUnresolved {
		s.dropUnresolved(n)
	}
	n.inUnresolved = want
}

func (s *solver) dropUnresolved(n *name) {
	for i, m := range s.unresolved {
		if m == n {
			s.unresolved = append(s.unresolved[:i], s.unresolved[i+1:]...)
			break
		}
	}
	n.inUnresolved = false
}

// touchDependents marks the dependencies of all packages that depend on n to be checked again.
func (s *solver) touchDependents(n *name) {
	for _, r := range n.rdepends {
		if r.discovered {
			r.checkDepends = true
			s.queueDirty(r)
		}
	}
}

// touchTriggered marks the install_if conditions of n to be checked again, after a package that may
// trigger it changed.
func (s *solver) touchTriggered(n *name) {
	if n.discovered && !n.neverTriggered {
		n.checkTriggers = true
		s.queueDirty(n)
	}
}

// ruleOut excludes c.
func (s *solver) ruleOut(c *candidate) {
	c.selectable = false
	s.touchDependents(c.name)
	for _, e := range c.provides {
		s.touchDependents(e.to)
	}
	c.eachTriggered(s.touchTriggered)
}

// satisfiable reports whether e, a dependency of from, can still be satisfied.
func (s *solver) satisfiable(from *candidate, e edge) bool {
	if e.to.decided {
		return e.accepts(from, e.to.chosen)
	}
	if e.to.requirers == 0 && e.Conflict {
		return true
	}
	for _, p := range e.to.providers {
		if p.pkg.selectable && e.accepts(from, p) {
			return true
		}
	}
	return false
}

// require applies e, a dependency of from or of the world: packages that do not satisfy it are
// excluded.
func (s *solver) require(from *candidate, e edge) {
	if !e.Conflict {
		e.to.requirers++
		if e.to.requirers == 1 {
			s.required(e.to)
		}
	}
	for _, p := range e.to.providers {
		if e.accepts(from, p) {
			s.inheritTags(p.pkg, from)
			continue
		}
		p.pkg.misfits++
		if p.pkg.selectable {
			s.ruleOut(p.pkg)
		}
	}
}

// required queues n after its first requirement.
func (s *solver) required(n *name) {
	s.queueUnresolved(n)
	for _, r := range n.rinstallIf {
		s.touchTriggered(r)
	}
	s.queueDirty(n)
}

// inheritTags allows c the repository tags of from, which depends on it; without from, those of the
// world entry.
func (s *solver) inheritTags(c, from *candidate) {
	if from != nil {
		c.allowedTags |= from.allowedTags
	} else {
		c.allowedTags |= s.inherited
		c.tagPreferred = c.tags&s.inherited != 0
	}
	c.tagAllowed = c.tagAllowed || c.tags&c.allowedTags != 0
}

// reconsider draws conclusions from the remaining candidates of n.
func (s *solver) reconsider(n *name) {
	checkDepends, checkTriggers := n.checkDepends, n.checkTriggers
	n.checkDepends, n.checkTriggers = false, false
	n.triggered, n.neverTriggered = false, true

	var first *candidate
	options, refused := 0, 0
	for _, p := range n.providers {
		c := p.pkg
		c.merged = false
		if checkDepends && c.selectable {
			s.recheckDepends(c)
		}
		if !c.selectable {
			continue
		}
		if checkTriggers {
			s.recheckTriggers(c)
		}
		n.triggered = n.triggered || c.triggered
		n.neverTriggered = n.neverTriggered && c.untriggered
		if n.requirers == 0 {
			continue
		}
		c.merged = true
		if first == nil {
			first = c
		}
		countShared(c, p, options)
		if !c.tagAllowed {
			refused++
		}
		options++
	}
	n.openChoice = options > 1 || refused > 0
	s.queueUnresolved(n)

	if first != nil {
		for _, p := range n.providers {
			p.pkg.used = p.pkg.merged
		}
		s.propagateDepends(first, options)
		s.propagateProvides(n, first, options)
	}

	n.parentsDecided = true
	for _, r := range n.rdepends {
		if r.discovered && !r.decided {
			n.parentsDecided = false
			break
		}
	}
}

// recheckDepends excludes c if one of its dependencies cannot be satisfied any more.
func (s *solver) recheckDepends(c *candidate) {
	for _, e := range c.depends {
		if !s.satisfiable(c, e) {
			s.ruleOut(c)
			return
		}
	}
}

// recheckTriggers checks whether all conditions of c's install_if hold, or one of them cannot hold
// any more.
func (s *solver) recheckTriggers(c *candidate) {
	if !c.triggered && !c.untriggered {
		c.triggered = true
		for _, e := range c.installIf {
			if !e.to.decided {
				c.triggered = false
				break
			}
			if !e.accepts(c, e.to.chosen) {
				c.triggered, c.untriggered = false, true
				break
			}
		}
	}
	if c.triggered {
		for _, e := range c.installIf {
			if e.to.chosen.pkg != nil {
				s.inheritTags(c, e.to.chosen.pkg)
			}
		}
	}
}

// countShared adds c, the candidate with number index, to the counts of shared dependencies and
// provides.
func countShared(c *candidate, p provider, index int) {
	for _, e := range c.depends {
		if !e.Conflict && e.to.sharedDepend == index {
			e.to.sharedDepend++
		}
	}
	provides := func(n *name, version string) {
		if n.sharedProvide == index {
			n.sharedProvide++
			n.sharedVirtual = n.sharedVirtual || version == ""
		}
	}
	provides(c.name, p.version)
	for _, e := range c.provides {
		provides(e.to, e.Version)
	}
}

// takeShared returns whether all candidates, options of them, were counted, and resets the count.
func takeShared(count *int, options int) bool {
	all := *count == options
	*count = 0
	return all
}

// propagateDepends requires the dependencies that all candidates share. With a single candidate it
// also applies their versions.
func (s *solver) propagateDepends(first *candidate, options int) {
	for _, e := range first.depends {
		shared := takeShared(&e.to.sharedDepend, options)
		switch {
		case !shared:
		case options == 1:
			s.require(first, e)
		case e.to.requirers == 0:
			e.to.requirers++
			s.required(e.to)
			for _, p := range e.to.providers {
				s.inheritTags(p.pkg, first)
			}
		}
	}
}

// propagateProvides excludes, for each name that all candidates provide, the other packages that
// provide it: they conflict with every candidate.
func (s *solver) propagateProvides(n *name, first *candidate, options int) {
	if takeShared(&first.name.sharedProvide, options) {
		s.excludeOthers(first.name, n, first.name.sharedVirtual)
	}
	for _, e := range first.provides {
		if takeShared(&e.to.sharedProvide, options) {
			s.excludeOthers(e.to, n, e.to.sharedVirtual)
		}
	}
	first.name.sharedVirtual = false
	for _, e := range first.provides {
		e.to.sharedVirtual = false
	}
}

// excludeOthers excludes the providers of n that do not also provide must. A name without a version
// may have several installed providers; skipVirtual keeps those.
func (s *solver) excludeOthers(n, must *name, skipVirtual bool) {
	if n == must {
		return
	}
next:
	for _, p := range n.providers {
		if p.pkg.name == must || !p.pkg.selectable || skipVirtual && p.version == "" {
			continue
		}
		for _, e := range p.pkg.provides {
			if e.to == must || skipVirtual && e.Version == "" {
				continue next
			}
		}
		s.ruleOut(p.pkg)
	}
}
