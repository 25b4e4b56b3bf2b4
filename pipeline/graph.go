package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A graph is a checked set of stages.
type graph struct {
	stages     []Stage
	needs      [][]int // for each stage, the stages it needs
	dependents [][]int // for each stage, the stages that need it
	delivered  []bool  // for each stage, whether its outputs are delivered
}

// newGraph checks that names are valid and unique, that needs exist and form no cycle, and that
// every output is used.
func newGraph(stages []Stage, deliver []string) (*graph, error) {
	index := map[string]int{}
	for i, st := range stages {
		name := st.Name()
		if !store.ValidName(name) {
			return nil, fmt.Errorf("stage %q: bad name", name)
		}
		if _, ok := index[name]; ok {
			return nil, fmt.Errorf("two stages are called %s", name)
		}
		index[name] = i
	}
	g := &graph{stages, make([][]int, len(stages)), make([][]int, len(stages)), make([]bool, len(stages))}
	for i, st := range stages {
		for _, need := range st.Needs() {
			n, ok := index[need]
			if !ok {
				return nil, fmt.Errorf("stage %s needs %s, which is not part of this build", st.Name(), need)
			}
			if !slices.Contains(g.needs[i], n) {
				g.needs[i] = append(g.needs[i], n)
				g.dependents[n] = append(g.dependents[n], i)
			}
		}
	}
	if cycle := g.cycle(); cycle != nil {
		return nil, fmt.Errorf("stages need each other in a circle: %s", strings.Join(cycle, " needs "))
	}
	return g, g.deliver(deliver)
}

// deliver marks the named stages as delivered or, if none is named, the stages that no other stage
// needs. If names are given, a stage that no other needs must be among them; otherwise its output
// would be missing without an error.
func (g *graph) deliver(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(g.stages, func(st Stage) bool { return st.Name() == name }) {
			return fmt.Errorf("cannot deliver stage %s: it is not part of this build", name)
		}
	}
	for i, st := range g.stages {
		unused := len(g.dependents[i]) == 0
		g.delivered[i] = slices.Contains(names, st.Name()) || len(names) == 0 && unused
		if unused && !g.delivered[i] {
			return fmt.Errorf("stage %s: nothing takes its output: name it in the Needs of another stage or in Deliver", st.Name())
		}
	}
	return nil
}

// cycle returns the names along a cycle, with the first one repeated at the end, or nil.
func (g *graph) cycle() []string {
	const unseen, open, closed = 0, 1, 2
	state := make([]int, len(g.stages))
	var path []int
	var visit func(i int) []string
	visit = func(i int) []string {
		state[i] = open
		path = append(path, i)
		for _, n := range g.needs[i] {
			if state[n] == open {
				var names []string
				for _, p := range path[slices.Index(path, n):] {
					names = append(names, g.stages[p].Name())
				}
				return append(names, g.stages[n].Name())
			}
			if state[n] == unseen {
				if c := visit(n); c != nil {
					return c
				}
			}
		}
		state[i] = closed
		path = path[:len(path)-1]
		return nil
	}
	for i := range g.stages {
		if state[i] == unseen {
			if c := visit(i); c != nil {
				return c
			}
		}
	}
	return nil
}
