package pipeline

import "slices"

// A queue returns the next stage to run: the first in the order of the graph whose needs are all
// done.
type queue struct {
	graph *graph
	state []stageState
	waits []map[int]bool // for a stage that waits, the needs that are not done
}

type stageState int

const (
	stageWaits stageState = iota
	stageRuns
	stageDone
)

func newQueue(g *graph) *queue {
	q := &queue{g, make([]stageState, len(g.stages)), make([]map[int]bool, len(g.stages))}
	for i, needs := range g.needs {
		q.waits[i] = map[int]bool{}
		for _, n := range needs {
			q.waits[i][n] = true
		}
	}
	return q
}

// next takes a stage that can run.
func (q *queue) next() (index int, ok bool) {
	for i, state := range q.state {
		if state == stageWaits && len(q.waits[i]) == 0 {
			q.state[i] = stageRuns
			return i, true
		}
	}
	return 0, false
}

// done marks a running stage as ended.
func (q *queue) done(index int) {
	q.state[index] = stageDone
	for _, d := range q.graph.dependents[index] {
		delete(q.waits[d], index)
	}
}

// again queues a running stage once more, after the stages in first, which it needs and which also
// run again.
func (q *queue) again(index int, first []int) {
	q.state[index] = stageWaits
	for _, n := range first {
		q.waits[index][n] = true
		if q.state[n] == stageDone {
			q.state[n] = stageWaits
		}
	}
}

// makers returns the stages that index needs and that made a blob.
func (q *queue) makers(index int, d Digest, results []*StageResult) []int {
	return slices.DeleteFunc(slices.Clone(q.graph.needs[index]), func(n int) bool {
		return results[n] == nil || !results[n].made(d)
	})
}
