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
	// Needs names the stages whose outputs Key and Run read. These stages end before Key is called.
	Needs() []string
	// Key adds everything that decides the output, apart from the stage's name and the digests of
	// its needs' outputs, which the engine adds: the stage's own version, its part of the recipe,
	// versions of tools. The cache stores the added values in plain text: they must not be secret.
	Key(k *Key, in Inputs) error
	// Run makes the outputs. It must heed ctx, and its outputs may depend on nothing that is not in
	// the key: no clock, host name, environment, random number or map order.
	Run(ctx context.Context, j *Job) error
}

// A Pinned stage makes outputs whose digests its options name, such as downloads that a lock pins.
// A cache can never change its outputs: the engine calls CheckPins for every cached result, from
// any build, and discards a result that fails.
type Pinned interface {
	Stage
	// CheckPins returns an error unless outputs, in this order, match the digests in the options.
	// open opens one of their blobs, and fetches it from a remote cache if necessary. The caller
	// has not compared the digests of outputs with anything.
	CheckPins(outputs []Output, open func(Blob) (*os.File, error)) error
}

// Inputs are the outputs of the stages that a stage needs.
type Inputs interface {
	// Outputs returns what a needed stage made, in the order it created them. A stage that Needs
	// does not name fails the build.
	Outputs(stage string) []Output
}
