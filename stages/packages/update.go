package packages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// An UpdateRequest says which packages of a resolution to update.
type UpdateRequest struct {
	Request
	Locked []lock.Package // the resolution so far
	Names  []string       // packages to update to their newest version; their dependencies follow if necessary

	// Metadata returns the packages that are installed with Locked, including those of the base. It
	// is called only if a locked package is not in the indexes any more.
	Metadata func(context.Context) ([]*apk.Package, error)
}

// Update resolves again and keeps the version of every package of Locked and of the base except
// Names. If a package in Names needs another version of a kept package, that is updated too.
func Update(ctx context.Context, r UpdateRequest) (*Resolution, error) {
	request, err := r.solver(ctx)
	if err != nil {
		return nil, err
	}
	servers := serversIn(request.Repositories)
	base := request.Installed
	locked, err := r.lockedPackages(ctx, request.Repositories)
	if err != nil {
		return nil, err
	}
	moving, err := r.moving(slices.Concat(locked, base), request.World)
	if err != nil {
		return nil, err
	}
	moves := func(p *apk.Package) bool { return moving[p.Name] }
	kept := &apk.Repository{Index: &apk.Index{Packages: slices.DeleteFunc(slices.Clone(locked), moves)}}
	request.Repositories = append([]*apk.Repository{kept}, request.Repositories...)
	request.Installed = slices.DeleteFunc(overlaid(base, locked), moves)
	solution, err := apk.Solve(request)
	if err != nil {
		return nil, fmt.Errorf("solve for %s with everything else kept: %w (sov lock --update all lets everything move)", strings.Join(r.Names, ", "), err)
	}
	// Solve again for the packages to install on the base, in order.
	request.Installed = base
	for _, p := range solution.Packages {
		request.World = append(request.World, exactly(p))
	}
	if solution, err = apk.Solve(request); err != nil {
		return nil, fmt.Errorf("solve for the updated packages: %w", err)
	}
	out := r.resolution(solution)
	out.Servers = servers
	return out, nil
}

// exactly returns a dependency that only this package satisfies.
func exactly(p *apk.Package) apk.Dep {
	return apk.Dep{Name: p.Name, Op: apk.OpLess | apk.OpGreater, Version: string(p.Checksum)}
}

// overlaid returns the base's packages, with those that the lock adds or replaces.
func overlaid(base, locked []*apk.Package) []*apk.Package {
	out := slices.Clone(locked)
	for _, p := range base {
		if !slices.ContainsFunc(locked, func(q *apk.Package) bool { return q.Name == p.Name }) {
			out = append(out, p)
		}
	}
	return out
}

// moving returns the set of names that may change, or an error for a name that is not installed.
func (r UpdateRequest) moving(there []*apk.Package, world []apk.Dep) (map[string]bool, error) {
	moving := map[string]bool{}
	for _, name := range recipe.PinPostgres(r.Names, r.Postgres) {
		found := false
		for _, p := range there {
			provides := slices.ContainsFunc(p.Provides, func(d apk.Dep) bool { return d.Name == name })
			if p.Name == name || provides {
				moving[p.Name], found = true, true
			}
		}
		// A package that is new in the recipe is not installed yet.
		asked := slices.ContainsFunc(world, func(d apk.Dep) bool { return d.Name == name })
		if !found && !asked {
			return nil, fmt.Errorf("update %s: no package of that name is installed (image, kernel, tailscale and all are the other words)", name)
		}
	}
	return moving, nil
}

// lockedPackages returns the metadata of the locked packages: from the indexes or, for packages
// that these have dropped, from the packages themselves.
func (r UpdateRequest) lockedPackages(ctx context.Context, repositories []*apk.Repository) ([]*apk.Package, error) {
	var known []*apk.Package
	for _, repository := range repositories {
		known = append(known, repository.Index.Packages...)
	}
	asked := false
	var out []*apk.Package
	for _, p := range r.Locked {
		same := func(q *apk.Package) bool { return q.Name == p.Name && string(q.Checksum) == p.Checksum }
		i := slices.IndexFunc(known, same)
		if i < 0 && !asked {
			asked = true
			installed, err := r.Metadata(ctx)
			if err != nil {
				return nil, fmt.Errorf("look into %s-%s, which no repository lists any more: %w", p.Name, p.Version, err)
			}
			known = append(known, installed...)
			i = slices.IndexFunc(known, same)
		}
		if i < 0 {
			return nil, fmt.Errorf("package %s-%s of the lock cannot be found (sov lock --update all resolves without it)", p.Name, p.Version)
		}
		out = append(out, known[i])
	}
	return out, nil
}

// resolution converts a solution. Kept packages keep the repository in the lock.
func (r UpdateRequest) resolution(s *apk.Solution) *Resolution {
	out := resolution(s)
	for i, p := range out.Packages {
		for _, old := range r.Locked {
			if old.Name == p.Name && old.Checksum == p.Checksum {
				out.Packages[i] = old
			}
		}
	}
	return out
}

// WorldOf returns the new /etc/apk/world: the base image's world and the recipe's packages.
func WorldOf(base *tree.Tree, install []string) ([]apk.Dep, error) { return wanted(base, install) }
