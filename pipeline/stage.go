package pipeline

import (
	"context"
	"os"
)

// A Stage turns inputs into outputs. The engine calls Key, and Run only when the store has no
// result for that key.
type Stage interface {
	// Name identifies the stage in a build, in the cache and on the screen. Lower-case letters,
	// digits and "-"; it is part of the key.
	Name() string
	// Needs names the stages whose outputs Key and Run read. They are finished before Key is
	// called.
	Needs() []string
	// Key adds everything that decides the output, apart from the stage's name and the digests of
	// its needs' outputs, which the engine adds: the stage's own version, its part of the recipe,
	// versions of tools. What is added is stored in the cache in the clear, so no secrets.
	Key(k *Key, in Inputs) error
	// Run makes the outputs. It must heed ctx, and its outputs may depend on nothing that is not in
	// the key: no clock, host name, environment, random number or map order.
	Run(ctx context.Context, j *Job) error
}

// A Pinned stage makes what its options name by digest, such as downloads that a lock pins. A cache
// can save it work and can never change what it makes: the engine asks CheckPins about every result
// that a cache has, from any build, and discards one that is something else.
type Pinned interface {
	Stage
	// CheckPins returns an error unless outputs, in this order, are what the options name. open
	// opens a blob of them, which a remote cache may have to give first; the digests of outputs
	// have been compared with nothing yet.
	CheckPins(outputs []Output, open func(Blob) (*os.File, error)) error
}

// Inputs are the outputs of the stages that a stage needs.
type Inputs interface {
	// Outputs returns what a needed stage made, in the order it created them. Asking for a stage
	// that Needs does not name fails the build.
	Outputs(stage string) []Output
}
