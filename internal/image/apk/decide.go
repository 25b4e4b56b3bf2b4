package apk

import "cmp"

// nextUndecided returns the name to decide next: one without alternatives whose dependents are all
// decided; otherwise package names before provided names, and names with a longer chain of
// dependencies first.
func (s *solver) nextUndecided() *name {
	var best *name
	for i := len(s.unresolved) - 1; i >= 0; i-- {
		n := s.unresolved[i]
		if n.parentsDecided && n.requirers > 0 && !n.openChoice {
			return n
		}
		if best == nil || n.decidedBefore(best) {
			best = n
		}
	}
	return best
}

func (n *name) decidedBefore(m *name) bool {
	if n.kind != m.kind {
		return n.kind < m.kind
	}
	return n.depth > m.depth
}

// decide chooses the best provider for n, or none.
func (s *solver) decide(n *name) {
	var chosen provider
	for _, p := range n.providers {
		if s.eligible(n, p) && (chosen.pkg == nil || compareProviders(p, chosen) > 0) {
			chosen = p
		}
	}
	c := chosen.pkg
	if c == nil {
		s.assign(n, provider{})
		if n.requirers > 0 {
			s.failed = true
		}
		return
	}
	if !c.selectable || !c.tagAllowed {
		s.markBroken(c)
	}
	s.assign(c.name, provider{c, c.Version})
	for _, e := range c.provides {
		s.assign(e.to, provider{c, e.Version})
	}
	for _, e := range c.depends {
		s.require(c, e)
	}
}

// eligible reports whether p may be chosen for n.
func (s *solver) eligible(n *name, p provider) bool {
	if n.requirers == 0 && (!p.pkg.triggered || !p.pkg.tagAllowed || !p.pkg.selectable) {
		return false
	}
	return p.autoSelectable()
}

// autoSelectable reports whether p may be chosen automatically. A package that provides only a
// virtual name without a version may not, unless it has a provider priority or its own name is
// required.
func (p provider) autoSelectable() bool {
	return p.version != "" || p.pkg.ProviderPriority != 0 || p.pkg.name.requirers > 0
}

// compareProviders returns more than 0 if a is preferred to b.
func compareProviders(a, b provider) int {
	x, y := a.pkg, b.pkg
	c := cmp.Or(
		compareBool(x.selectable, y.selectable),
		compareBool(x.used, y.used),
		cmp.Compare(y.misfits, x.misfits),
		compareBool(x.tagAllowed, y.tagAllowed),
		compareBool(x.tagPreferred, y.tagPreferred),
		compareBool(x.installed, y.installed),
		compareProvided(a.version, b.version),
	)
	if c == 0 && x.name == y.name {
		c = CompareVersions(x.Version, y.Version)
	}
	return cmp.Or(c,
		cmp.Compare(x.ProviderPriority, y.ProviderPriority),
		cmp.Compare(y.firstRepository(), x.firstRepository()),
	)
}

// compareProvided compares the versions of a provided name; without one, a provider is neither
// older nor newer.
func compareProvided(a, b string) int {
	if a == "" || b == "" {
		return 0
	}
	return CompareVersions(a, b)
}

// firstRepository returns the number of the first repository that has c, from 1, or 0 if it is only
// installed.
func (c *candidate) firstRepository() int {
	if len(c.repos) == 0 {
		return 0
	}
	return c.repos[0] + 1
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// assign decides n and excludes providers of n that conflict with p.
func (s *solver) assign(n *name, p provider) {
	if n.decided {
		// Several packages may provide one name if none of them gives it a version.
		if p.version == "" && n.chosen.version == "" {
			return
		}
		s.markBroken(p.pkg)
		s.markBroken(n.chosen.pkg)
		return
	}
	n.decided, n.chosen = true, p
	if n.inUnresolved {
		s.dropUnresolved(n)
	}
	n.inDirty = false
	for _, other := range n.providers {
		if other.pkg != p.pkg && (p.version != "" || other.version != "") {
			s.ruleOut(other.pkg)
		}
	}
	s.touchDependents(n)
	if p.pkg != nil {
		p.pkg.eachTriggered(s.touchTriggered)
		return
	}
	for _, r := range n.rinstallIf {
		s.touchTriggered(r)
	}
}

// markBroken records that c, although chosen, cannot be part of a solution.
func (s *solver) markBroken(c *candidate) {
	if c != nil {
		c.broken = true
		s.failed = true
	}
}
