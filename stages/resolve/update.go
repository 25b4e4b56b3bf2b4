package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
)

// Words for Update that are not package names.
const (
	UpdateAll       = "all"
	UpdateImage     = lock.KindImage
	UpdateKernel    = lock.KindKernel
	UpdateTailscale = lock.KindTailscale
	UpdateFiles     = "files" // of the recipe
)

// ErrNoEntry matches the error for a lock without an entry for the recipe.
var ErrNoEntry = errors.New("has no entry for it")

// A Report compares a lock's entry with another one.
type Report struct {
	Changes []lock.Change // from the entry to the other
	Stale   error         // a *lock.StaleError if the recipe has changed since the entry was made
	Written bool          // the other entry was written to the lock
	// NewerPostgres is a newer major version of PostgreSQL in the repositories that is not used
	// because the recipe does not request it; 0 if there is none.
	NewerPostgres int
	// From and To are the old and the new major version of PostgreSQL if it changes, else 0.
	From, To int
}

// majors sets From and To from the entries.
func (r *Report) majors(from, to *lock.Entry) {
	if a, b := from.PostgresMajor(), to.PostgresMajor(); a != 0 && b != 0 && a != b {
		r.From, r.To = a, b
	}
}

// Newest reports what is newer than the lock, and changes nothing. A stale entry
// is not compared.
func Newest(ctx context.Context, o Options) (*Report, error) {
	var report Report
	err := withLock(ctx, o, func(r *Resolver, entry *lock.Entry) error {
		if report.Stale = r.check(ctx, entry, r.LockPath); report.Stale != nil {
			return nil
		}
		newest, err := r.newest(ctx, entry)
		if err != nil {
			return fmt.Errorf("ask what is newer for recipe %s on %s: %w", r.Recipe.Name, r.Arch, err)
		}
		report.Changes, report.NewerPostgres = lock.Diff(entry, newest), r.newerMajor()
		report.majors(entry, newest)
		return nil
	})
	return &report, err
}

// withLock calls fn with the recipe's entry in the lock.
func withLock(ctx context.Context, o Options, fn func(*Resolver, *lock.Entry) error) error {
	r, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	file, err := lock.Load(r.LockPath)
	if err != nil {
		return err
	}
	entry, ok := file.Find(r.Recipe.Name, r.Arch)
	if !ok {
		return fmt.Errorf("recipe %s for %s: %s %w", r.Recipe.Name, r.Arch, r.LockPath, ErrNoEntry)
	}
	return fn(r, entry)
}

// newest resolves an entry again. It asks for the newest version of the kernel's
// source and does not fetch the source.
func (r *Resolver) newest(ctx context.Context, entry *lock.Entry) (*lock.Entry, error) {
	out := *entry
	if err := r.resolveImage(ctx, &out); err != nil {
		return nil, err
	}
	if err := r.resolvePackages(ctx, &out); err != nil {
		return nil, err
	}
	if entry.Kernel == nil || r.Kernel != "" {
		return &out, nil
	}
	return &out, r.Do(ctx, "ask for kernels", func(ctx context.Context, t *pipeline.Task) error {
		version, newer, err := kernel.Newest(ctx, kernel.ResolveOptions{Source: entry.Inputs.Kernel, Fetch: r.Client, Task: t}, *entry.Kernel)
		if newer {
			out.Kernel = &lock.Kernel{Version: version}
		}
		return err
	})
}

// Update updates what the words name to the newest version, keeps everything else of the entry, and
// writes the lock. A word is the name of a package or one of the constants above. With UpdateAll
// the lock need not have an entry.
func Update(ctx context.Context, o Options, words []string) (*Report, error) {
	if slices.Contains(words, UpdateAll) {
		return updateAll(ctx, o)
	}
	var report Report
	err := withLock(ctx, o, func(r *Resolver, entry *lock.Entry) error {
		updated, err := r.updated(ctx, entry, words)
		if err != nil {
			return fmt.Errorf("update the lock of recipe %s for %s: %w", r.Recipe.Name, r.Arch, err)
		}
		report.Changes, report.NewerPostgres = lock.Diff(entry, updated), r.newerMajor()
		report.majors(entry, updated)
		// The recipe may have changes that the words do not cover.
		if err := r.check(ctx, updated, r.LockPath); err != nil {
			return err
		}
		if err := r.digests(ctx, updated); err != nil {
			return err
		}
		report.Written, err = lock.Update(r.LockPath, *updated)
		return err
	})
	return &report, err
}

func updateAll(ctx context.Context, o Options) (*Report, error) {
	r, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	file, err := lock.Load(r.LockPath)
	if err != nil {
		return nil, err
	}
	before, ok := file.Find(r.Recipe.Name, r.Arch)
	if !ok {
		before = &lock.Entry{}
	}
	report := &Report{}
	was := *before
	r.UpdateLock = true
	entry, written, err := r.Entry(ctx)
	if err == nil {
		err = r.digests(ctx, entry)
	}
	if err != nil {
		return report, err
	}
	completed, err := lock.Complete(r.LockPath, *entry)
	report.Changes, report.Written = lock.Diff(&was, entry), written || completed
	report.NewerPostgres = r.newerMajor()
	report.majors(&was, entry)
	return report, err
}

// updated returns the entry with the newest versions of what the words name.
func (r *Resolver) updated(ctx context.Context, entry *lock.Entry, words []string) (*lock.Entry, error) {
	out := *entry
	want := r.want()
	var names []string
	for _, word := range words {
		var err error
		switch word {
		case UpdateImage:
			out.Inputs.Image = want.Image
			err = r.resolveImage(ctx, &out)
		case UpdateKernel:
			out.Inputs.Kernel = want.Kernel
			err = r.resolveKernel(ctx, &out)
		case UpdateTailscale:
			out.Tailscale = want.Tailscale
		case UpdateFiles:
			if err = r.sumPrograms(ctx, entry, true); err == nil {
				out.Files = r.want().Files
			}
		default:
			names = append(names, word)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(names) == 0 && out.Image == entry.Image {
		return &out, nil
	}
	out.Inputs.Packages, out.Inputs.Repositories = want.Packages, want.Repositories
	return &out, r.onBase(ctx, &out, "resolve packages", func(ctx context.Context, base *tree.Tree) error {
		solution, err := packages.Update(ctx, packages.UpdateRequest{Request: r.packageRequest(&out, base), Locked: entry.Packages, Names: names,
			Metadata: func(ctx context.Context) ([]*apk.Package, error) { return r.installed(ctx, entry) }})
		if err == nil {
			out.Packages, out.Removed, r.servers = solution.Packages, solution.Removed, solution.Servers
		}
		return r.explainMajor(err)
	})
}

// installed returns all packages of an entry, including those of the base image.
func (r *Resolver) installed(ctx context.Context, entry *lock.Entry) (list []*apk.Package, err error) {
	stages := []pipeline.Stage{r.Base(entry), r.Packages(entry)}
	outputs, err := r.Run(ctx, stages...)
	if err != nil {
		return nil, err
	}
	all, err := overlay.Merge(outputs, overlay.Shares(stages...)...)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	return apk.Installed(all.Tree)
}
