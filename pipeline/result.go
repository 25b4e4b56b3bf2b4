package pipeline

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A Status says what became of a stage.
type Status string

// What can become of a stage.
const (
	Cached  Status = "cached"  // its result was in the store
	Built   Status = "built"   // it ran
	Failed  Status = "failed"  // it failed or was stopped
	Missing Status = "missing" // it would run; from Explain only
	Unknown Status = "unknown" // what it needs would run; from Explain only
)

// A Result says what a build did.
type Result struct {
	// Stages stand in the order given to Build, without those that were not
	// reached because of an error.
	Stages  []StageResult
	Elapsed time.Duration
}

// A StageResult says what became of one stage.
type StageResult struct {
	Name   string
	Key    string // 64 hex digits; "" if it could not be computed
	Status Status
	// Reason says in a few words why a stage was not taken from the store.
	Reason string
	// Changed lists what is different from the last build of the scope.
	Changed []Change
	// Remote is the remote cache that the result came from; "" if it was made
	// here. Its blobs may not have been needed yet.
	Remote   string
	fields   []Field       // of the key
	Elapsed  time.Duration // how long it ran; 0 if it did not
	Outputs  []Output
	Warnings []string
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

// WriteExplanation writes for people, for each stage, its status and key and,
// if it was not cached, why, and what changed since the last build.
func (r *Result) WriteExplanation(w io.Writer) error {
	width := 0
	for _, st := range r.Stages {
		width = max(width, len(st.Name))
	}
	var b strings.Builder
	for _, st := range r.Stages {
		key := st.Key
		if key == "" {
			key = "(key not known yet)"
		}
		fmt.Fprintf(&b, "%-*s  %-7s  %s\n", width, st.Name, st.Status, key)
		indent := strings.Repeat(" ", width+2)
		if st.Remote != "" {
			fmt.Fprintf(&b, "%sfrom %s\n", indent, st.Remote)
		}
		if st.Reason != "" {
			fmt.Fprintf(&b, "%s%s\n", indent, st.Reason)
		}
		for _, c := range st.Changed {
			fmt.Fprintf(&b, "%s  %s\n", indent, c)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
