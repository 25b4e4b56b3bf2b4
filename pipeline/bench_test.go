package pipeline

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkNothingToDo builds nine stages that are all in a cache of 600 MB. It opens the store
// each time, as a new process does.
func BenchmarkNothingToDo(b *testing.B) {
	dir := b.TempDir()
	var stages []Stage
	for i := range 9 {
		stages = append(stages, &testStage{name: fmt.Sprint("stage", i), run: func(_ context.Context, j *Job) error {
			for n := range 10 {
				if _, err := j.Write(fmt.Sprint("out", n), randomBytes(uint64(i*10+n), 600<<20/90)); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	mustBuild(b, &Engine{Store: openStore(b, dir), Scope: "bench"}, stages...)
	for b.Loop() {
		res := mustBuild(b, &Engine{Store: openStore(b, dir), Scope: "bench"}, stages...)
		if res.Count(Cached) != len(stages) {
			b.Fatal(statuses(res))
		}
	}
}
