package resolve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/files"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// A Resolver resolves one recipe for one architecture. It holds the store, the network client and
// the offline bundle, which the stages of a build also use.
type Resolver struct {
	Options
	Store         *pipeline.Store
	Cache         pipeline.Cache  // Store, with remote caches behind it if there are any
	Client        *fetch.Client   // for everything but images
	OfflineBundle *offline.Bundle // Options.Bundle; nil without one

	image   oci.Reference     // of the base
	copied  []oci.Reference   // of Recipe.CopiedImages
	files   []lock.RecipeFile // of the recipe's files, as they are now
	images  oci.Options
	release func() // of the store

	major   int   // the major version of PostgreSQL to resolve; 0: the newest
	kept    bool  // major is from the lock, not from the recipe
	servers []int // major versions in the repositories, when last read
}

// Open opens the store, and the bundle if there is one. Until Close, other
// processes do not prune the store.
func Open(ctx context.Context, o Options) (_ *Resolver, err error) {
	if o.Recipe == nil {
		return nil, errors.New("resolve: a recipe is required")
	}
	if _, err := arch.Get(o.Arch); err != nil {
		return nil, err
	}
	for _, repository := range o.Repositories {
		if err := recipe.CheckRepository(repository); err != nil {
			return nil, fmt.Errorf("package repository: %w", err)
		}
	}
	if o.Reporter == nil {
		o.Reporter = progress.Silent{}
	}
	r := &Resolver{Options: o}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := r.openBundle(); err != nil {
		return nil, err
	}
	if r.image, err = oci.Parse(r.imageName()); err != nil {
		return nil, err
	}
	for _, text := range r.Recipe.CopiedImages() {
		ref, err := oci.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("copy: %w", err)
		}
		r.copied = append(r.copied, ref)
	}
	if err := r.hashFiles(); err != nil {
		return nil, err
	}
	if err := r.pinMajor(); err != nil {
		return nil, err
	}
	if err := r.connect(); err != nil {
		return nil, err
	}
	return r, r.openStore(ctx)
}

func (r *Resolver) openStore(ctx context.Context) (err error) {
	if r.Store, err = store.Open(r.CacheDir); err != nil {
		return err
	}
	r.Cache = r.Store
	if len(r.Remotes.From)+len(r.Remotes.To) > 0 || r.Remotes.Believe != nil {
		r.Remotes.Warn = func(stage, text string) {
			r.Reporter.Report(progress.Event{Time: time.Now(), Type: progress.EventWarning, Stage: stage, Text: text})
		}
		r.Cache = remote.Wrap(ctx, r.Store, r.Remotes)
	}
	r.release, err = r.Store.Use(ctx, func(holder string) {
		r.Reporter.Report(progress.Event{Time: time.Now(), Type: progress.EventWait, Text: "the cache is being pruned by " + holder})
	})
	return err
}

// connect sets up the network client, which is offline if the options say so.
func (r *Resolver) connect() error {
	transport := fetch.NewTransport(fetch.DefaultTimeouts)
	if r.Offline {
		transport = fetch.Offline
	}
	r.Client = &fetch.Client{Transport: transport}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // only the system's configuration is used then
	}
	mirrors, err := oci.DockerMirrors(home)
	r.images = oci.Options{Transport: transport, Mirrors: mirrors}
	return err
}

// Close closes the bundle and lets other processes prune the store.
func (r *Resolver) Close() error {
	if r.release != nil {
		r.release()
	}
	return r.OfflineBundle.Close()
}

// Base returns the stage that fetches the base image of an entry.
func (r *Resolver) Base(entry *lock.Entry) pipeline.Stage {
	return base.New(base.Options{Reference: r.image, Digest: entry.Image.Digest, Arch: r.Arch, Images: r.images, Bundle: r.OfflineBundle})
}

// Copied returns the stages that fetch the images that files are copied from, in order.
func (r *Resolver) Copied(entry *lock.Entry) (images []overlay.Share) {
	for i, ref := range r.copied {
		images = append(images, base.New(base.Options{Stage: base.CopiedName(i), Reference: ref, Digest: entry.Copied[i].Digest, Arch: r.Arch,
			Images: r.images, Bundle: r.OfflineBundle}))
	}
	return images
}

// Files returns the stage that puts the recipe's files into the root file system.
func (r *Resolver) Files(entry *lock.Entry) pipeline.Stage {
	return files.New(files.Options{Below: overlay.Shares(r.Base(entry), r.Packages(entry)), Recipe: r.Recipe, Locked: entry.Files, Client: r.Client, Bundle: r.OfflineBundle})
}

// Packages returns the stage that installs the packages of an entry.
func (r *Resolver) Packages(entry *lock.Entry) pipeline.Stage {
	return packages.New(packages.Options{Below: overlay.Shares(r.Base(entry)), Packages: entry.Packages, Removed: entry.Removed,
		Recipe: r.Recipe, Arch: r.Arch, Client: r.Client, Bundle: r.OfflineBundle})
}

// Do runs fn as a task that is shown under a name.
func (r *Resolver) Do(ctx context.Context, name string, fn func(context.Context, *pipeline.Task) error) error {
	return (&pipeline.Engine{Progress: r.Reporter}).Do(ctx, name, fn)
}

// Run runs stages before a build, which then finds their outputs in the store.
func (r *Resolver) Run(ctx context.Context, stages ...pipeline.Stage) (output.Source, error) {
	e := &pipeline.Engine{Store: r.Cache, Jobs: r.Jobs, Progress: withinBuild{r.Reporter}}
	for _, st := range stages {
		e.Deliver = append(e.Deliver, st.Name())
	}
	result, err := e.Build(ctx, stages)
	if err != nil {
		return nil, err
	}
	return output.Of(result, r.Store), nil
}

// withinBuild drops the start and end events of a build that is part of another.
type withinBuild struct{ progress.Reporter }

func (w withinBuild) Report(e progress.Event) {
	if e.Type != progress.EventBuild && e.Type != progress.EventDone {
		w.Reporter.Report(e)
	}
}

// imageName returns the base image's reference as the user gave it.
func (r *Resolver) imageName() string {
	if r.Image != "" {
		return r.Image
	}
	return r.Recipe.Base.Image
}

func (r *Resolver) repositories() []string {
	if len(r.Repositories) > 0 {
		return slices.Clone(r.Repositories)
	}
	return slices.Clone(r.Recipe.Packages.Repositories)
}

func (r *Resolver) kernelSource() string {
	if r.KernelSource != "" {
		return r.KernelSource
	}
	return r.Recipe.Kernel.Source
}

func (r *Resolver) tailscaleVersion() string {
	if !r.Recipe.Tailscale.Enabled {
		return ""
	}
	return tailscale.Version()
}
