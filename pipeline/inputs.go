package pipeline

import "slices"

// inputs are the outputs of the stages that one stage needs.
type inputs struct {
	needs      []string // in the order of Needs
	outputs    map[string][]Output
	remotes    map[Digest]string  // the remote cache of a blob that may not be in the local store
	unknown    bool               // a needed stage has not run, in Explain
	undeclared func(stage string) // called with requested stages that Needs does not name
}

// Outputs implements Inputs.
func (in *inputs) Outputs(stage string) []Output {
	if !slices.Contains(in.needs, stage) {
		in.undeclared(stage)
		return nil
	}
	return slices.Clone(in.outputs[stage])
}

func (b *build) inputsOf(index int, results []*StageResult) *inputs {
	in := &inputs{outputs: map[string][]Output{}, remotes: map[Digest]string{}}
	for _, n := range b.graph.needs[index] {
		r := results[n]
		in.needs = append(in.needs, r.Name)
		in.outputs[r.Name] = r.Outputs
		if r.Remote != "" {
			for _, o := range r.Outputs {
				in.remotes[o.Digest] = r.Remote
			}
		}
		if r.Status != Built && r.Status != Cached {
			in.unknown = true
		}
	}
	return in
}
