package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/packages"
)

// A Reason says why a package is in a machine.
type Reason struct {
	Package *apk.Package
	Recipe  []string     // the packages in the recipe, as written there
	Chains  [][]apk.Link // from the world to the package; empty: the base image has it and no package needs it
}

// Why returns the reason for a package of the lock or of the base image.
func Why(ctx context.Context, o Options, name string) (*Reason, error) {
	reason := &Reason{Recipe: o.Recipe.Packages.Install}
	err := withLock(ctx, o, func(r *Resolver, entry *lock.Entry) error {
		list, err := r.installed(ctx, entry)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(p *apk.Package) bool { return p.Name == name })
		if i < 0 {
			return fmt.Errorf("no package %s is in recipe %s for %s%s", name, r.Recipe.Name, r.Arch, similar(list, name))
		}
		reason.Package = list[i]
		return r.onBase(ctx, entry, "look for reasons", func(_ context.Context, base *tree.Tree) error {
			world, err := packages.WorldOf(base, entry.Inputs.Packages)
			reason.Chains = apk.Why(world, list, name)
			return err
		})
	})
	return reason, err
}

// similar suggests packages: those that provide the name, or whose name contains it.
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
