// Package resolve resolves a recipe to exact inputs: the digest of the base image, the versions of
// packages, the kernel's source. It writes them to the lock, updates the lock, and explains why the
// lock has a package.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
)

// Entry returns the inputs of a build: the entry of the lock or of the bundle, or a new one. It
// adds a new entry to the lock.
func (r *Resolver) Entry(ctx context.Context) (entry *lock.Entry, written bool, err error) {
	if r.LockPath != "" && !r.UpdateLock {
		file, err := lock.Load(r.LockPath)
		if err != nil {
			return nil, false, err
		}
		if entry, ok := file.Find(r.Recipe.Name, r.Arch); ok {
			if err := r.check(ctx, entry, r.LockPath); err != nil {
				return entry, false, err
			}
			entry, err = r.withOldServer(ctx, entry)
			return entry, false, err
		}
	}
	if r.OfflineBundle != nil && !r.UpdateLock {
		entry, err := r.bundleEntry()
		if err != nil {
			return nil, false, err
		}
		if entry != nil {
			return r.adopt(ctx, entry)
		}
	}
	entry, err = r.resolve(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("resolve recipe %s for %s: %w", r.Recipe.Name, r.Arch, r.adviseOffline(err))
	}
	if r.LockPath != "" {
		written, err = lock.Update(r.LockPath, *entry)
	}
	if newer := r.newerMajor(); err == nil && newer != 0 {
		r.warn(newerPostgres(r.major, newer))
	}
	if err == nil {
		entry, err = r.withOldServer(ctx, entry)
	}
	return entry, written, err
}

// adopt writes a bundle's entry to the lock.
func (r *Resolver) adopt(ctx context.Context, entry *lock.Entry) (_ *lock.Entry, written bool, err error) {
	if err := r.check(ctx, entry, r.Bundle); err != nil {
		return nil, false, err
	}
	if r.LockPath != "" {
		written, err = lock.Update(r.LockPath, *entry)
	}
	return entry, written, err
}

func (r *Resolver) adviseOffline(err error) error {
	if r.Offline && r.LockPath != "" {
		return fmt.Errorf("%w (offline, and %s has no entry for it)", err, r.LockPath)
	}
	return err
}

// check returns an error unless a lock entry matches the recipe and the options. path is the lock
// file, for errors.
func (r *Resolver) check(ctx context.Context, entry *lock.Entry, path string) error {
	if err := r.sumPrograms(ctx, entry, false); err != nil {
		return err
	}
	err := entry.Check(path, r.want())
	if stale := new(lock.StaleError); errors.As(err, &stale) {
		stale.Offline = r.Offline
	}
	if err == nil && r.OfflineBundle == nil {
		err = r.checkLocalImages(ctx, entry)
	}
	return err
}

// checkLocalImages returns an error if a local folder or tarball does not have the image of an
// entry any more, even if the cache has that image: a user who changes the folder expects another
// machine. A missing folder is not an error.
func (r *Resolver) checkLocalImages(ctx context.Context, entry *lock.Entry) error {
	digests := map[string]string{r.image.String(): entry.Image.Digest}
	for _, copied := range entry.Copied {
		digests[copied.Reference] = copied.Digest
	}
	for _, ref := range append([]oci.Reference{r.image}, r.copied...) {
		if ref.Kind == oci.Registry {
			continue
		}
		if _, err := os.Stat(ref.Path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := oci.Open(ctx, ref, r.Arch, digests[ref.String()], r.images); err != nil {
			return err
		}
	}
	return nil
}

// want returns the lock entry's required fields for the recipe and the options.
func (r *Resolver) want() lock.Want {
	w := lock.Want{
		Inputs: lock.Inputs{
			Image:        r.imageName(),
			Repositories: r.repositories(),
			Packages:     slices.Clone(r.Recipe.Packages.Install),
			Kernel:       r.kernelSource(),
		},
		Files:        r.files,
		Copied:       r.Recipe.CopiedImages(),
		KernelSource: r.Kernel == "",
		Tailscale:    r.tailscaleVersion(),
		Postgres:     r.Recipe.Postgres.Major,
	}
	if len(w.Packages) == 0 {
		w.Repositories = nil // unused
	}
	return w
}

// resolve makes an entry from the current state of the registry, the repositories and the kernel's
// source.
func (r *Resolver) resolve(ctx context.Context) (*lock.Entry, error) {
	if err := r.sumPrograms(ctx, &lock.Entry{}, true); err != nil {
		return nil, err
	}
	want := r.want()
	entry := &lock.Entry{Recipe: r.Recipe.Name, Arch: r.Arch, Inputs: want.Inputs, Tailscale: want.Tailscale, Files: want.Files}
	if err := r.resolveImage(ctx, entry); err != nil {
		return nil, err
	}
	if err := r.resolvePackages(ctx, entry); err != nil {
		return nil, err
	}
	if !want.KernelSource {
		entry.Inputs.Kernel = ""
		return entry, nil
	}
	return entry, r.resolveKernel(ctx, entry)
}

// resolveImage pins the base image and the images that files are copied from.
func (r *Resolver) resolveImage(ctx context.Context, entry *lock.Entry) error {
	return r.Do(ctx, "resolve image", func(ctx context.Context, _ *pipeline.Task) error {
		img, err := oci.Open(ctx, r.image, r.Arch, "", r.images)
		if err != nil {
			return err
		}
		entry.Image = lock.Image{Reference: entry.Inputs.Image, Digest: img.Digest}
		entry.Copied = nil
		for _, ref := range r.copied {
			img, err := oci.Open(ctx, ref, r.Arch, "", r.images)
			if err != nil {
				return fmt.Errorf("copy: %w", err)
			}
			entry.Copied = append(entry.Copied, lock.Image{Reference: ref.String(), Digest: img.Digest})
		}
		return nil
	})
}

func (r *Resolver) resolveKernel(ctx context.Context, entry *lock.Entry) error {
	return r.Do(ctx, "resolve kernel", func(ctx context.Context, t *pipeline.Task) error {
		// The source has over a hundred megabytes, so check for the compiler before fetching it. A
		// remote cache may have the kernel.
		if err := kernel.CheckTools(ctx, r.Arch); err != nil && len(r.Remotes.From) == 0 {
			return err
		}
		k, err := kernel.Resolve(ctx, kernel.ResolveOptions{Source: entry.Inputs.Kernel, Store: r.Store, Fetch: r.Client, Task: t})
		entry.Kernel = &k
		return err
	})
}

// resolvePackages solves for the packages on top of the base image.
func (r *Resolver) resolvePackages(ctx context.Context, entry *lock.Entry) error {
	if len(entry.Inputs.Packages) == 0 {
		return nil
	}
	return r.onBase(ctx, entry, "resolve packages", func(ctx context.Context, base *tree.Tree) error {
		solution, err := packages.Resolve(ctx, r.packageRequest(entry, base))
		if err != nil {
			return r.explainMajor(err)
		}
		r.servers = solution.Servers
		entry.Packages, entry.Removed = solution.Packages, solution.Removed
		return nil
	})
}

func (r *Resolver) packageRequest(entry *lock.Entry, base *tree.Tree) packages.Request {
	return packages.Request{Base: base, Repositories: entry.Inputs.Repositories, Install: entry.Inputs.Packages, Postgres: r.major,
		Keys: r.Recipe.Packages.Keys, Arch: r.Arch, Client: r.Client, Seen: filepath.Join(r.CacheDir, "indexes"), Warn: r.warn}
}

// onBase calls fn, as a task of that name, with the tree of an entry's base
// image. The base stage fetches the image, so that the build finds it in the
// store.
func (r *Resolver) onBase(ctx context.Context, entry *lock.Entry, name string, fn func(context.Context, *tree.Tree) error) error {
	image := r.Base(entry)
	outputs, err := r.Run(ctx, image)
	if err != nil {
		return err
	}
	return r.Do(ctx, name, func(ctx context.Context, _ *pipeline.Task) error {
		merged, err := overlay.Merge(outputs, overlay.Shares(image)...)
		if err != nil {
			return err
		}
		defer merged.Close()
		return fn(ctx, merged.Tree)
	})
}
