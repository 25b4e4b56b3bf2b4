package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
)

// Words of UpdateLock that are no names of packages.
const (
	UpdateAll       = "all"
	UpdateImage     = lock.KindImage
	UpdateKernel    = lock.KindKernel
	UpdateTailscale = lock.KindTailscale
)

// ErrNoEntry is in the error for a lock that knows nothing of the recipe.
var ErrNoEntry = errors.New("has no entry for it")

// A LockReport compares a lock's entry with another one.
type LockReport struct {
	Changes []lock.Change // from the entry to the other
	Stale   error         // why the entry does not answer the recipe, a *lock.StaleError; nil: it does
	Written bool          // the other stands in the lock now
}

// NewestLock tells what there is newer than the lock has, and changes nothing.
// A lock that does not answer the recipe is not compared any further.
func NewestLock(ctx context.Context, o Options) (*LockReport, error) {
	var report LockReport
	err := withLock(ctx, o, func(b *builder, entry *lock.Entry) error {
		if report.Stale = entry.Check(b.LockPath, b.want()); report.Stale != nil {
			return nil
		}
		newest, err := b.newest(ctx, entry)
		if err != nil {
			return fmt.Errorf("ask what is newer for recipe %s on %s: %w", b.Recipe.Name, b.Arch, err)
		}
		report.Changes = lock.Diff(entry, newest)
		return nil
	})
	return &report, err
}

// withLock opens a builder and its lock's entry.
func withLock(ctx context.Context, o Options, fn func(*builder, *lock.Entry) error) error {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return err
	}
	release, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	file, err := lock.Load(b.LockPath)
	if err != nil {
		return err
	}
	entry, ok := file.Find(b.Recipe.Name, b.Arch)
	if !ok {
		return fmt.Errorf("recipe %s for %s: %s %w", b.Recipe.Name, b.Arch, b.LockPath, ErrNoEntry)
	}
	return fn(b, entry)
}

// newest resolves anew, but for the kernel's source, of which it fetches
// nothing.
func (b *builder) newest(ctx context.Context, entry *lock.Entry) (*lock.Entry, error) {
	out := *entry
	if err := b.resolveImage(ctx, &out); err != nil {
		return nil, err
	}
	if err := b.resolvePackages(ctx, &out); err != nil {
		return nil, err
	}
	if entry.Kernel == nil || b.Kernel != "" {
		return &out, nil
	}
	return &out, b.engine.Do(ctx, "ask for kernels", func(ctx context.Context, t *pipeline.Task) error {
		version, newer, err := kernel.Newest(ctx, kernel.ResolveOptions{Source: entry.Inputs.Kernel, Fetch: b.client, Task: t}, *entry.Kernel)
		if newer {
			out.Kernel = &lock.Kernel{Version: version}
		}
		return err
	})
}

// UpdateLock takes what the words name in its newest version, a package, or one
// of the words above, keeps everything else as the lock has it, and writes the
// lock. With UpdateAll it need not have an entry yet.
func UpdateLock(ctx context.Context, o Options, words []string) (*LockReport, error) {
	if slices.Contains(words, UpdateAll) {
		return updateAll(ctx, o)
	}
	var report LockReport
	err := withLock(ctx, o, func(b *builder, entry *lock.Entry) error {
		updated, err := b.updated(ctx, entry, words)
		if err != nil {
			return fmt.Errorf("update the lock of recipe %s for %s: %w", b.Recipe.Name, b.Arch, err)
		}
		report.Changes = lock.Diff(entry, updated)
		// What else the recipe asks for now, nobody has let move.
		if err := updated.Check(b.LockPath, b.want()); err != nil {
			return err
		}
		report.Written, err = lock.Update(b.LockPath, *updated)
		return err
	})
	return &report, err
}

func updateAll(ctx context.Context, o Options) (*LockReport, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return nil, err
	}
	release, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	file, err := lock.Load(b.LockPath)
	if err != nil {
		return nil, err
	}
	before, ok := file.Find(b.Recipe.Name, b.Arch)
	if !ok {
		before = &lock.Entry{}
	}
	report := &LockReport{}
	was := *before
	b.UpdateLock = true
	entry, written, err := b.lockEntry(ctx)
	if err == nil {
		report.Changes, report.Written = lock.Diff(&was, entry), written
	}
	return report, err
}

// updated returns an entry in which what the words name is new.
func (b *builder) updated(ctx context.Context, entry *lock.Entry, words []string) (*lock.Entry, error) {
	out := *entry
	want := b.want()
	var names []string
	for _, word := range words {
		var err error
		switch word {
		case UpdateImage:
			out.Inputs.Image = want.Image
			err = b.resolveImage(ctx, &out)
		case UpdateKernel:
			out.Inputs.Kernel = want.Kernel
			err = b.resolveKernel(ctx, &out)
		case UpdateTailscale:
			out.Tailscale = want.Tailscale
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
	return &out, b.onBase(ctx, &out, "resolve packages", func(ctx context.Context, base *tree.Tree) error {
		solution, err := packages.Update(ctx, packages.UpdateRequest{Request: b.packageRequest(&out, base), Locked: entry.Packages, Names: names,
			Metadata: func(ctx context.Context) ([]*apk.Package, error) { return b.installed(ctx, entry) }})
		if err == nil {
			out.Packages, out.Removed = solution.Packages, solution.Removed
		}
		return err
	})
}

// installed returns the packages that an entry comes to, base included.
func (b *builder) installed(ctx context.Context, entry *lock.Entry) (list []*apk.Package, err error) {
	alpine := []pipeline.Stage{b.base(entry), b.packages(entry)}
	result, err := b.buildBefore(ctx, alpine...)
	if err != nil {
		return nil, err
	}
	all, err := overlay.Merge(output.Of(result, b.store), overlay.Shares(alpine...)...)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	return apk.Installed(all.Tree)
}

// A Reason is why a package is in a machine.
type Reason struct {
	Package *apk.Package
	Recipe  []string     // the packages that the recipe asks for, as it does
	Chains  [][]apk.Link // from the world to the package; none: the base image has it and nothing needs it
}

// WhyPackage tells why a locked package, or one of the base image, is there.
func WhyPackage(ctx context.Context, o Options, name string) (*Reason, error) {
	reason := &Reason{Recipe: o.Recipe.Packages.Install}
	err := withLock(ctx, o, func(b *builder, entry *lock.Entry) error {
		list, err := b.installed(ctx, entry)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(p *apk.Package) bool { return p.Name == name })
		if i < 0 {
			return fmt.Errorf("no package %s is in recipe %s for %s%s", name, b.Recipe.Name, b.Arch, similar(list, name))
		}
		reason.Package = list[i]
		return b.onBase(ctx, entry, "look for reasons", func(_ context.Context, base *tree.Tree) error {
			world, err := packages.WorldOf(base, entry.Inputs.Packages)
			reason.Chains = apk.Why(world, list, name)
			return err
		})
	})
	return reason, err
}

// similar names packages that may have been meant: by what they provide, or by
// a part of their name.
func similar(list []*apk.Package, name string) string {
	var names []string
	for _, p := range list {
		if strings.Contains(p.Name, name) || slices.ContainsFunc(p.Provides, func(d apk.Dep) bool { return d.Name == name }) {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; there is " + strings.Join(names, ", ")
}
