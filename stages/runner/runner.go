// Package runner is the stage that adds sov-runner, the phone's program, to the artifact.
package runner

import (
	"context"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
)

// Name is the stage's name.
const Name = "runner"

// Options hold the program.
type Options struct {
	Program []byte // sov-runner for the phone's architecture
}

// New returns the stage.
func New(o Options) pipeline.Stage { return &stage{o} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return nil }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	k.Add("sov-runner", pipeline.DigestOf(s.Program))
	return nil
}

func (s *stage) Run(_ context.Context, j *pipeline.Job) error {
	_, err := j.Write(artifact.RunnerFile, s.Program)
	return err
}
