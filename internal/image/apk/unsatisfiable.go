package apk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Unsatisfiable is the error of Solve if no set of packages satisfies the request.
type Unsatisfiable struct {
	Problems []string // one sentence each, those nearest to the request first
}

// Error returns the problems, one a line if there are several.
func (e *Unsatisfiable) Error() string { return strings.Join(e.Problems, "\n") }

// maxNearNames is how many names are suggested for an unknown one.
const maxNearNames = 3

// An explainer follows the dependencies from the world and collects those that cannot be satisfied.
type explainer struct {
	*universe
	problems  []string
	visited   map[*candidate]bool
	required  map[*name][]requirement // the dependencies found so far, by name
	order     []*name                 // the keys of required, in the order they were found
	conflicts []requirement
}

// A requirement is a dependency and its package; by is nil for the world.
type requirement struct {
	by *candidate
	edge
}

func (u *universe) explain() *Unsatisfiable {
	x := &explainer{universe: u, visited: map[*candidate]bool{}, required: map[*name][]requirement{}}
	queue := make([]requirement, 0, len(u.world))
	for _, e := range u.world {
		queue = append(queue, requirement{nil, e})
	}
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		c := x.require(r)
		if c == nil || x.visited[c] {
			continue
		}
		x.visited[c] = true
		for _, e := range c.depends {
			queue = append(queue, requirement{c, e})
		}
	}
	x.clashes()
	if len(x.problems) == 0 {
		deps := make([]Dep, len(u.world))
		for i, e := range u.world {
			deps[i] = e.Dep
		}
		x.add("no combination of the available packages provides all of: %s", formatDeps(deps))
	}
	return &Unsatisfiable{x.problems}
}

func (x *explainer) add(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(x.problems, s) {
		x.problems = append(x.problems, s)
	}
}

// require records a requirement and returns the package to follow: the chosen one if it satisfies
// the requirement, else the best match.
func (x *explainer) require(r requirement) *candidate {
	if r.Conflict {
		x.conflicts = append(x.conflicts, r)
		return nil
	}
	if x.required[r.to] == nil {
		x.order = append(x.order, r.to)
	}
	x.required[r.to] = append(x.required[r.to], r)
	var fit []provider
	for _, p := range r.to.providers {
		if r.accepts(r.by, p) {
			fit = append(fit, p)
		}
	}
	switch {
	case len(r.to.providers) == 0:
		x.unknown(r)
		return nil
	case len(fit) == 0:
		x.add("%s requires %s, but only %s", r.who(), r.Dep, available(r.to))
		return nil
	case !slices.ContainsFunc(fit, func(p provider) bool { return p.pkg.tagAllowed }):
		x.add("%s requires %s, which is only in a repository with a tag: ask for %s@%s to allow it", r.who(), r.Dep, r.Name, x.tagOf(fit[0].pkg))
		return nil
	case !slices.ContainsFunc(fit, provider.autoSelectable):
		x.add("%s requires %s, which is a virtual name with several packages behind it; ask for one of them: %s", r.who(), r.Dep, packageNames(fit))
		return nil
	}
	if chosen := r.to.chosen; chosen.pkg != nil && r.accepts(r.by, chosen) {
		return chosen.pkg
	}
	return slices.MaxFunc(fit, compareProviders).pkg
}

// who names the owner of a requirement.
func (r requirement) who() string {
	if r.by == nil {
		return "the list of packages to install"
	}
	return "package " + r.by.ID()
}

// unknown reports a name without a provider.
func (x *explainer) unknown(r requirement) {
	var unusable []string
	for _, repo := range x.repos {
		for _, p := range repo.Index.Packages {
			if p.Name == r.Name && p.unusable != nil {
				unusable = append(unusable, fmt.Sprintf("%s cannot be used: %v", p.ID(), p.unusable))
			}
		}
	}
	switch near := x.nearNames(r.Name); {
	case len(unusable) > 0:
		x.add("%s requires %s, but %s", r.who(), r.Dep, strings.Join(unusable, "; "))
	case len(near) > 0:
		x.add("%s requires %s, which no repository has; names like it: %s", r.who(), r.Dep, strings.Join(near, ", "))
	default:
		x.add("%s requires %s, which no repository has", r.who(), r.Dep)
	}
}

// nearNames returns names with a similar spelling to id, the nearest first.
func (x *explainer) nearNames(id string) []string {
	type near struct {
		id       string
		distance int
	}
	var found []near
	limit := 1 + len(id)/4
	for _, n := range x.names {
		if len(n.providers) == 0 {
			continue
		}
		d := limit + 1
		if strings.HasPrefix(n.id, id) || strings.HasPrefix(id, n.id+"-") {
			d = limit
		}
		if abs(len(n.id)-len(id)) <= limit {
			d = min(d, editDistance(n.id, id))
		}
		if d <= limit {
			found = append(found, near{n.id, d})
		}
	}
	slices.SortFunc(found, func(a, b near) int { return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.id, b.id)) })
	var ids []string
	for _, f := range found[:min(len(found), maxNearNames)] {
		ids = append(ids, f.id)
	}
	return ids
}

func abs(n int) int { return max(n, -n) }

// editDistance returns the Levenshtein distance of a and b in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// clashes reports requirements that can each be satisfied, but not together.
func (x *explainer) clashes() {
	for _, n := range x.order {
		reqs := x.required[n]
		if slices.ContainsFunc(n.providers, func(p provider) bool { return meetsAll(reqs, p) }) || !allMeetable(reqs) {
			continue
		}
		words := make([]string, len(reqs))
		for i, r := range reqs {
			words[i] = fmt.Sprintf("%s requires %s", r.who(), r.Dep)
		}
		x.add("%s; %s", strings.Join(words, " while "), available(n))
	}
	for _, c := range x.conflicts {
		for _, p := range c.to.providers {
			if x.visited[p.pkg] && !c.accepts(c.by, p) {
				x.add("%s cannot be together with %s (it says %s), which %s requires", c.who(), p.pkg.ID(), c.Dep, x.whoWants(p.pkg))
			}
		}
	}
	for _, c := range x.all {
		if x.visited[c] {
			x.sameNames(c)
		}
	}
}

// sameNames reports required packages that provide the same name, which only one of them may.
func (x *explainer) sameNames(c *candidate) {
	for _, e := range append([]edge{{Dep{Name: c.Name, Version: c.Version}, c.name}}, c.provides...) {
		for _, p := range e.to.providers {
			if p.pkg.Name != c.Name && x.visited[p.pkg] && (e.Version != "" || p.version != "") && c.ID() < p.pkg.ID() {
				x.add("packages %s, which %s requires, and %s, which %s requires, both provide %s and cannot be together",
					c.ID(), x.whoWants(c), p.pkg.ID(), x.whoWants(p.pkg), e.to.id)
			}
		}
	}
}

// whoWants names the first package that requires c.
func (x *explainer) whoWants(c *candidate) string {
	for _, n := range x.order {
		for _, r := range x.required[n] {
			for _, p := range n.providers {
				if p.pkg == c && r.by != c && r.accepts(r.by, p) {
					return r.who()
				}
			}
		}
	}
	return "something"
}

func meetsAll(reqs []requirement, p provider) bool {
	return !slices.ContainsFunc(reqs, func(r requirement) bool { return !r.accepts(r.by, p) })
}

// allMeetable reports whether each requirement alone can be satisfied. Others are already reported.
func allMeetable(reqs []requirement) bool {
	return !slices.ContainsFunc(reqs, func(r requirement) bool {
		return !slices.ContainsFunc(r.to.providers, func(p provider) bool { return r.accepts(r.by, p) })
	})
}

// available lists the available versions of a name: "foo 1.0 and 1.1 are available".
func available(n *name) string {
	var list []string
	for _, p := range n.providers {
		s := p.pkg.ID()
		if p.pkg.name != n {
			s = strings.TrimSpace(n.id+" "+p.version) + " of " + s
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	slices.Sort(list)
	if len(list) == 1 {
		return list[0] + " is available"
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1] + " are available"
}

func packageNames(providers []provider) string {
	var names []string
	for _, p := range providers {
		names = append(names, p.pkg.Name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// tagOf returns the name of a tag that c has.
func (x *explainer) tagOf(c *candidate) string {
	for _, i := range c.repos {
		if tag := x.repos[i].Tag; tag != "" {
			return tag
		}
	}
	return "TAG"
}
