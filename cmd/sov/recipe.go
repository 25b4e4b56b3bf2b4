package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/stages"
)

// recipeFlags are the flags of the commands that use a recipe and its lock.
type recipeFlags struct {
	stages.Options
	profiles []string
	set      []string
	settings *settings.Settings // set by load
	progress string
	asJSON   bool
}

func (f *recipeFlags) add(c *cobra.Command) {
	flags := c.Flags()
	archFlag(c, &f.Arch)
	flags.StringVar(&f.LockPath, "lock", "", "lock file (default: sov.lock beside the recipe, or here for an embedded one)")
	flags.StringVar(&f.CacheDir, "cache", "", "cache folder (default: $SOV_CACHE_DIR, else sov in the user's cache folder)")
	progressFlag(c, &f.progress)
}

// load reads the named recipe or the bundle's, and fills in values that no flag has set.
func (f *recipeFlags) load(name string) (err error) {
	if f.settings, err = settings.Load(os.Getenv); err != nil {
		return err
	}
	if f.Recipe, f.RecipeText, err = build.LoadRecipe(name, f.Bundle, f.BundleKey, f.variant()); err != nil {
		return err
	}
	if f.Bundle == "" { // a bundle has its own image and repositories
		f.Image = f.settings.Get(settings.Image, f.Image).One()
		f.Repositories = f.settings.Get(settings.Repositories, f.Repositories...).Values
	}
	if f.LockPath == "" {
		f.LockPath = build.LockBeside(name)
	}
	if f.CacheDir == "" {
		f.CacheDir, err = cacheDir()
	}
	f.Program = func(ctx context.Context, name, arch string) ([]byte, error) {
		return embedded.Source{
			CacheDir: func() (string, error) { return f.CacheDir, nil }, Offline: f.Offline, Reporter: f.Reporter,
		}.Program(ctx, name, arch)
	}
	return err
}

// kernelFlags are the two flags that select a kernel.
var kernelFlags = [2]string{"kernel", "with-kernel-source"}

// lockedFlags adds the flags of the commands that read a locked build without building.
func lockedFlags(c *cobra.Command, f *recipeFlags) {
	f.add(c)
	jsonFlag(c, &f.asJSON)
	flags := c.Flags()
	flags.StringVar(&f.Image, "image", "", "base image instead of the recipe's, as for the build")
	flags.StringArrayVar(&f.Repositories, "repository", nil, "package repository instead of the recipe's, as for the build; may be repeated")
	flags.StringVar(&f.KernelSource, "with-kernel-source", "", "kernel source, as for the build")
}
