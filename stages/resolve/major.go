package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/packages"
)

// pinMajor chooses the major version of PostgreSQL to resolve: the recipe's, else the lock's. A
// server cannot read the databases of another major version, so a new one is used only on request.
func (r *Resolver) pinMajor() error {
	if r.major = r.Recipe.Postgres.Major; r.major != 0 || !r.Recipe.Postgres.Enabled || r.LockPath == "" {
		return nil
	}
	file, err := lock.Load(r.LockPath)
	if err != nil {
		return err
	}
	if entry, ok := file.Find(r.Recipe.Name, r.Arch); ok {
		r.major = entry.PostgresMajor()
		r.kept = r.major != 0
	}
	return nil
}

// newerMajor returns a newer major version in the repositories that was not used because the lock
// has an older one, or 0.
func (r *Resolver) newerMajor() int {
	if !r.kept || len(r.servers) == 0 {
		return 0
	}
	if newest := slices.Max(r.servers); newest > r.major {
		return newest
	}
	return 0
}

func newerPostgres(kept, newer int) string {
	return fmt.Sprintf("PostgreSQL %d is available, and the lock keeps %d: to change, set postgres.major in the recipe or --set postgres.major=%d; "+
		"`sov upgrade` then upgrades the databases on a phone", newer, kept, newer)
}

// explainMajor adds advice to the error that the repositories lack a major version of PostgreSQL.
func (r *Resolver) explainMajor(err error) error {
	lacking := new(packages.MajorError)
	switch {
	case !errors.As(err, &lacking) || len(lacking.Have) == 0:
		return err
	case r.kept:
		return fmt.Errorf("the lock has PostgreSQL %d: %w: another major version is taken only where it is asked for: type `sov lock %s --update all --set postgres.major=%d`, "+
			"and `sov upgrade` upgrades the databases; or take repositories that have %[1]d", r.major, err, r.Recipe.Name, slices.Max(lacking.Have))
	}
	return fmt.Errorf("postgres.major: %w", err)
}

// withOldServer returns the entry with the packages of the server that postgres.upgrade_from names.
// The lock does not have them: they are only in the version of a machine that upgrades its
// databases.
func (r *Resolver) withOldServer(ctx context.Context, entry *lock.Entry) (*lock.Entry, error) {
	old := r.Recipe.Postgres.UpgradeFrom
	if old == 0 {
		return entry, nil
	}
	major := entry.PostgresMajor()
	if major == 0 {
		return nil, errors.New("postgres.upgrade_from: PostgreSQL is not one of the machine's packages: upgrade by `sov backup`, a new data disk and `sov restore`")
	}
	if old >= major {
		return nil, fmt.Errorf("postgres.upgrade_from: %d must be lower than the machine's PostgreSQL, which is %d: `sov lock %s --update all --set postgres.major=N` takes a newer one", old, major, r.Recipe.Name)
	}
	out := *entry
	prefix := fmt.Sprint("postgresql", major)
	for _, p := range entry.Packages {
		if rest, ok := strings.CutPrefix(p.Name, prefix); ok && (rest == "" || rest[0] == '-') {
			out.Inputs.Packages = append(slices.Clip(out.Inputs.Packages), fmt.Sprint("postgresql", old, rest))
		}
	}
	added := out.Inputs.Packages[len(entry.Inputs.Packages):]
	return &out, r.onBase(ctx, &out, fmt.Sprintf("resolve PostgreSQL %d beside %d", old, major), func(ctx context.Context, base *tree.Tree) error {
		request := r.packageRequest(&out, base)
		request.Postgres = major
		have, err := request.Servers(ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(have, old) {
			lacking := &packages.MajorError{Major: old, Have: have}
			return fmt.Errorf("postgres.upgrade_from: %w: upgrade in hops, by repositories of an Alpine release that has both versions of a hop; "+
				"or by `sov backup`, a new data disk and `sov restore`", lacking)
		}
		solution, err := packages.Update(ctx, packages.UpdateRequest{Request: request, Locked: entry.Packages, Names: added,
			Metadata: func(ctx context.Context) ([]*apk.Package, error) { return r.installed(ctx, entry) }})
		if err != nil {
			return err
		}
		out.Packages, out.Removed = solution.Packages, solution.Removed
		out.Inputs.Packages = entry.Inputs.Packages
		return nil
	})
}
