package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
)

// lockEntry returns what the build is made of: from the lock if it answers, or
// resolved now and written to it.
func (b *builder) lockEntry(ctx context.Context) (entry *lock.Entry, written bool, err error) {
	if b.LockPath != "" && !b.UpdateLock {
		file, err := lock.Load(b.LockPath)
		if err != nil {
			return nil, false, err
		}
		if entry, ok := file.Find(b.Recipe.Name, b.Arch); ok {
			return entry, false, entry.Check(b.LockPath, b.want())
		}
	}
	if b.supplies != nil && !b.UpdateLock {
		entry, err := b.bundleEntry()
		if err != nil {
			return nil, false, err
		}
		if entry != nil {
			return b.adopt(entry)
		}
	}
	entry, err = b.resolve(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("resolve recipe %s for %s: %w", b.Recipe.Name, b.Arch, b.adviseOffline(err))
	}
	if b.LockPath != "" {
		written, err = lock.Update(b.LockPath, *entry)
	}
	return entry, written, err
}

// adopt makes a bundle's entry that of the lock.
func (b *builder) adopt(entry *lock.Entry) (_ *lock.Entry, written bool, err error) {
	if err := entry.Check(b.Bundle, b.want()); err != nil {
		return nil, false, err
	}
	if b.LockPath != "" {
		written, err = lock.Update(b.LockPath, *entry)
	}
	return entry, written, err
}

func (b *builder) adviseOffline(err error) error {
	if b.Offline && b.LockPath != "" {
		return fmt.Errorf("%w (offline, and %s has no entry for it)", err, b.LockPath)
	}
	return err
}

// want is what the build at hand needs of a lock.
func (b *builder) want() lock.Want {
	w := lock.Want{
		Inputs: lock.Inputs{
			Image:        b.imageName(),
			Repositories: b.repositories(),
			Packages:     slices.Clone(b.Recipe.Packages.Install),
			Kernel:       b.kernelSource(),
		},
		KernelSource: b.Kernel == "",
		Tailscale:    b.tailscaleVersion(),
	}
	if len(w.Packages) == 0 {
		w.Repositories = nil // nothing is taken from them
	}
	return w
}

// resolve finds out what the recipe's words mean today.
func (b *builder) resolve(ctx context.Context) (*lock.Entry, error) {
	want := b.want()
	entry := &lock.Entry{Recipe: b.Recipe.Name, Arch: b.Arch, Inputs: want.Inputs, Tailscale: want.Tailscale}
	if err := b.resolveImage(ctx, entry); err != nil {
		return nil, err
	}
	if err := b.resolvePackages(ctx, entry); err != nil {
		return nil, err
	}
	if !want.KernelSource {
		entry.Inputs.Kernel = ""
		return entry, nil
	}
	return entry, b.resolveKernel(ctx, entry)
}

func (b *builder) resolveImage(ctx context.Context, entry *lock.Entry) error {
	return b.engine.Do(ctx, "resolve image", func(ctx context.Context, _ *pipeline.Task) error {
		img, err := oci.Open(ctx, b.image, b.Arch, "", b.images)
		if err == nil {
			entry.Image = lock.Image{Reference: entry.Inputs.Image, Digest: img.Digest}
		}
		return err
	})
}

func (b *builder) resolveKernel(ctx context.Context, entry *lock.Entry) error {
	return b.engine.Do(ctx, "resolve kernel", func(ctx context.Context, t *pipeline.Task) error {
		// Before a source of over a hundred megabytes is fetched that could not be compiled. A remote cache may have the kernel.
		if err := kernel.CheckTools(ctx, b.Arch); err != nil && len(b.Remotes.From) == 0 {
			return err
		}
		k, err := kernel.Resolve(ctx, kernel.ResolveOptions{Source: entry.Inputs.Kernel, Store: b.store, Fetch: b.client, Task: t})
		entry.Kernel = &k
		return err
	})
}

// resolvePackages solves for the packages on top of the base image.
func (b *builder) resolvePackages(ctx context.Context, entry *lock.Entry) error {
	if len(entry.Inputs.Packages) == 0 {
		return nil
	}
	return b.onBase(ctx, entry, "resolve packages", func(ctx context.Context, base *tree.Tree) error {
		solution, err := packages.Resolve(ctx, b.packageRequest(entry, base))
		if err != nil {
			return err
		}
		entry.Packages, entry.Removed = solution.Packages, solution.Removed
		return nil
	})
}

func (b *builder) packageRequest(entry *lock.Entry, base *tree.Tree) packages.Request {
	return packages.Request{Base: base, Repositories: entry.Inputs.Repositories, Install: entry.Inputs.Packages,
		Keys: b.Recipe.Packages.Keys, Arch: b.Arch, Client: b.client}
}

// onBase calls fn, as a task of that name, with the tree of an entry's base
// image, which it has the base stage bring: the build finds it in the cache then.
func (b *builder) onBase(ctx context.Context, entry *lock.Entry, name string, fn func(context.Context, *tree.Tree) error) error {
	result, err := b.buildBefore(ctx, b.base(entry))
	if err != nil {
		return err
	}
	return b.engine.Do(ctx, name, func(ctx context.Context, _ *pipeline.Task) error {
		tree, err := overlay.Merge(finished{b.store, result}, base.Name)
		if err != nil {
			return err
		}
		defer tree.Close()
		return fn(ctx, tree.Tree)
	})
}

// buildBefore runs stages whose results something else than the build needs.
func (b *builder) buildBefore(ctx context.Context, list ...pipeline.Stage) (*pipeline.Result, error) {
	before := *b.engine
	before.Scope, before.NoCache, before.Progress, before.Deliver = "", false, withinBuild{b.reporter}, nil
	for _, st := range list {
		before.Deliver = append(before.Deliver, st.Name())
	}
	return before.Build(ctx, list)
}

// withinBuild leaves out the beginning and the end of a build that is only a
// part of another.
type withinBuild struct{ progress.Reporter }

func (r withinBuild) Report(e progress.Event) {
	if e.Type != progress.EventBuild && e.Type != progress.EventDone {
		r.Reporter.Report(e)
	}
}

// finished gives the outputs of a build that is over.
type finished struct {
	*pipeline.Store
	result *pipeline.Result
}

// output returns one output of a stage.
func (f finished) output(stage, name string) (pipeline.Blob, bool) {
	for _, o := range f.Outputs(stage) {
		if o.Name == name {
			return o.Blob, true
		}
	}
	return pipeline.Blob{}, false
}

// readJSON decodes a small output of a stage.
func (f finished) readJSON(stage, name string, v any) error {
	b, ok := f.output(stage, name)
	if !ok {
		return fmt.Errorf("stage %s has no output %q", stage, name)
	}
	file, err := f.Open(b)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := json.NewDecoder(file).Decode(v); err != nil {
		return fmt.Errorf("decode %s of stage %s: %w", name, stage, err)
	}
	return nil
}

func (f finished) Outputs(stage string) []pipeline.Output {
	if st := f.result.Stage(stage); st != nil {
		return st.Outputs
	}
	return nil
}
