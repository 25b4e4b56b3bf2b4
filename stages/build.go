package stages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// LoadRecipe reads the built-in recipe of that name or, if name ends in .yaml
// or .yml or has a slash, the file. It returns the source text too. Faults of
// the recipe are of type strictyaml.Errors.
func LoadRecipe(name string) (*recipe.Recipe, []byte, error) {
	var text []byte
	var err error
	if strings.ContainsRune(name, '/') || slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name)) {
		text, err = os.ReadFile(name)
	} else {
		text, err = assets.Recipe(name)
		name += ".yaml"
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read recipe: %w", err)
	}
	r, err := recipe.Parse(name, text)
	return r, text, err
}

// Build makes the artifact of a recipe. After a failure the Result, if there is
// one, says how far the stages came.
func Build(ctx context.Context, o Options) (*Result, error) {
	started := time.Now()
	b, err := newBuilder(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.supplies.Close()
	release, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	result, err := b.build(ctx)
	if result != nil {
		result.Elapsed = time.Since(started)
	}
	return result, err
}

// use keeps other processes from pruning what is read, or exported, until
// release is called.
func (b *builder) use(ctx context.Context) (release func(), err error) {
	return b.store.Use(ctx, func(holder string) {
		b.reporter.Report(progress.Event{Time: time.Now(), Type: progress.EventWait, Text: "the cache is being pruned by " + holder})
	})
}

// A builder is one build.
type builder struct {
	Options
	store    *pipeline.Store
	engine   *pipeline.Engine
	reporter progress.Reporter
	image    oci.Reference // of the base
	images   oci.Options
	client   *fetch.Client // for everything that is no image
	supplies *offline.Bundle
}

func newBuilder(ctx context.Context, o Options) (_ *builder, err error) {
	if o.Recipe == nil || o.Program == nil {
		return nil, errors.New("build: a recipe and a source of sov-init and sov-runner are needed")
	}
	if o.Arch != "arm64" && o.Arch != "amd64" {
		return nil, fmt.Errorf("build for %q: the architectures are arm64 and amd64", o.Arch)
	}
	if err := CheckFormats(o.Formats); err != nil {
		return nil, err
	}
	for _, repository := range o.Repositories {
		if err := recipe.CheckRepository(repository); err != nil {
			return nil, fmt.Errorf("package repository: %w", err)
		}
	}
	b := &builder{Options: o, reporter: o.Reporter}
	if b.reporter == nil {
		b.reporter = progress.Silent{}
	}
	defer func() {
		if err != nil {
			b.supplies.Close()
		}
	}()
	if err := b.openSupplies(); err != nil {
		return nil, err
	}
	if b.image, err = oci.Parse(b.imageName()); err != nil {
		return nil, err
	}
	if b.store, err = store.Open(o.CacheDir); err != nil {
		return nil, err
	}
	var cache pipeline.Cache = b.store
	if len(o.Remotes.From)+len(o.Remotes.To) > 0 {
		o.Remotes.Warn = func(stage, text string) {
			b.reporter.Report(progress.Event{Time: time.Now(), Type: progress.EventWarning, Stage: stage, Text: text})
		}
		cache = remote.Wrap(ctx, b.store, o.Remotes)
	}
	b.engine = &pipeline.Engine{Store: cache, Jobs: o.Jobs, NoCache: o.NoCache, Deliver: append([]string{bundle.Name}, o.Formats...),
		Scope: o.Recipe.Name + "/" + o.Arch, Progress: b.reporter}
	return b, b.connect()
}

// connect sets up how the network is asked, or that it is not.
func (b *builder) connect() error {
	transport := fetch.NewTransport(fetch.DefaultTimeouts)
	if b.Offline {
		transport = fetch.Offline
	}
	b.client = &fetch.Client{Transport: transport}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // only the system's configuration counts then
	}
	mirrors, err := oci.DockerMirrors(home)
	b.images = oci.Options{Transport: transport, Mirrors: mirrors}
	return err
}

func (b *builder) build(ctx context.Context) (*Result, error) {
	guest, err := b.Program("sov-init", b.Arch)
	if err != nil {
		return nil, err
	}
	phone, err := b.Program("sov-runner", b.Arch)
	if err != nil {
		return nil, err
	}
	entry, written, err := b.lockEntry(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{Lock: entry, LockWritten: written}
	if result.Result, err = b.engine.Build(ctx, b.graph(entry, guest, phone)); err != nil {
		return result, err
	}
	if b.Out == "" {
		return result, nil
	}
	dir := filepath.Join(b.Out, b.Recipe.Name, b.Arch)
	result.Exported, err = Export(ctx, b.store, result.Result, dir)
	if err == nil {
		result.Dir = dir
	}
	return result, err
}

// imageName is the base image's reference as the user gave it.
func (b *builder) imageName() string {
	if b.Image != "" {
		return b.Image
	}
	return b.Recipe.Base.Image
}

func (b *builder) repositories() []string {
	if len(b.Repositories) > 0 {
		return slices.Clone(b.Repositories)
	}
	return slices.Clone(b.Recipe.Packages.Repositories)
}

func (b *builder) kernelSource() string {
	if b.KernelSource != "" {
		return b.KernelSource
	}
	return b.Recipe.Kernel.Source
}

func (b *builder) tailscaleVersion() string {
	if !b.Recipe.Tailscale.Enabled {
		return ""
	}
	return tailscale.Version()
}
