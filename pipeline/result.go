package pipeline

import (
	"fmt"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Status is the outcome of a stage.
type Status string

// The outcomes of a stage.
const (
	Cached  Status = "cached"  // its result was in the store
	Built   Status = "built"   // it ran
	Failed  Status = "failed"  // it failed or was stopped
	Missing Status = "missing" // it would run; from Explain only
	Unknown Status = "unknown" // a stage that it needs would run; from Explain only
)

// A Result is the outcome of a build.
type Result struct {
	// Stages are in the order given to Build, without those that were not reached because of an
	// error.
	Stages  []StageResult
	Elapsed time.Duration
}

// A StageResult is the outcome of one stage.
type StageResult struct {
	Name   string
	Key    string // 64 hex digits; "" if it could not be computed
	Status Status
	// Reason is a short text that says why the stage was not taken from the store.
	Reason string
	// Changed lists the differences from the last build of the scope: "label: old → new".
	Changed []string
	// Remote is the remote cache that the result came from; "" if it was made here. Its blobs may
	// not have been needed yet.
	Remote string
	// From and Signer are those of store.Record: the remote cache that the result came from, in
	// this build or an earlier one, and the key that signed it there.
	From, Signer string

	fields   []store.Field // of the key
	Elapsed  time.Duration // how long it ran; 0 if it did not
	Outputs  []Output
	Warnings []string
}

// made reports whether a blob is one of the stage's outputs.
func (r *StageResult) made(d Digest) bool {
	return slices.ContainsFunc(r.Outputs, func(o Output) bool { return o.Digest == d })
}

// Stage returns the result of the stage called name, or nil.
func (r *Result) Stage(name string) *StageResult {
	for i := range r.Stages {
		if r.Stages[i].Name == name {
			return &r.Stages[i]
		}
	}
	return nil
}

// Output returns an output of a stage.
func (r *Result) Output(stage, name string) (Blob, error) {
	if st := r.Stage(stage); st != nil {
		for _, o := range st.Outputs {
			if o.Name == name {
				return o.Blob, nil
			}
		}
	}
	return Blob{}, fmt.Errorf("stage %s has no output %q", stage, name)
}

// Count returns how many stages have the status.
func (r *Result) Count(s Status) int {
	n := 0
	for i := range r.Stages {
		if r.Stages[i].Status == s {
			n++
		}
	}
	return n
}
