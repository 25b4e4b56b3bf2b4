package resolve_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// addMajor adds a server of a major version to the repository.
func addMajor(w *tinybuild.World, major int) {
	w.T.Helper()
	dir := fmt.Sprint("usr/libexec/postgresql", major)
	w.AddPackage(&apkbuild.Package{
		Info: apkbuild.Info{Name: fmt.Sprint("postgresql", major), Version: fmt.Sprint(major, ".1-r0"), License: "PostgreSQL", Provides: []string{"postgresql"}, ProviderPriority: major},
		Files: []apkbuild.File{
			{Name: dir + "/postgres", Type: apkbuild.Regular, Mode: 0o755, Data: fmt.Appendf(nil, "postgres (PostgreSQL) %d.1\n", major)},
			{Name: dir + "/initdb", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("initdb")},
		},
	})
}

func servers(e *lock.Entry) (list []string) {
	for _, p := range e.Packages {
		if lock.ServerMajor(p.Name) != 0 {
			list = append(list, p.Name)
		}
	}
	slices.Sort(list)
	return list
}

// TestMajorStays keeps the major version of PostgreSQL in a lock until the recipe requests another.
func TestMajorStays(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o) // 17
	addMajor(w, 18)
	report, err := resolve.Newest(context.Background(), o.Options)
	if err != nil || len(report.Changes) > 0 || report.NewerPostgres != 18 {
		t.Fatalf("%+v, %v: want nothing newer but a major version", report, err)
	}
	if report, err = resolve.Update(context.Background(), o.Options, []string{resolve.UpdateAll}); err != nil || report.To != 0 || report.NewerPostgres != 18 {
		t.Fatalf("%+v, %v: a new major version was taken without being asked for", report, err)
	}
	o.Recipe.Postgres.Major = 18
	if _, err := resolve.Newest(context.Background(), o.Options); err != nil {
		t.Fatal(err)
	}
	stale, err := resolve.Newest(context.Background(), o.Options)
	if err != nil || stale.Stale == nil || !strings.Contains(stale.Stale.Error(), "PostgreSQL was 17 and is to be 18") {
		t.Errorf("%+v, %v", stale, err)
	}
	if report, err = resolve.Update(context.Background(), o.Options, []string{resolve.UpdateAll}); err != nil || report.From != 17 || report.To != 18 {
		t.Fatalf("%+v, %v, want 17 to 18", report, err)
	}
	o.Recipe.Postgres.Major = 0
	w.Build(o) // the lock has 18 from here on

	o.Recipe.Postgres.Major = 16
	_, err = resolve.Update(context.Background(), o.Options, []string{resolve.UpdateAll})
	if err == nil || !strings.Contains(err.Error(), "postgres.major: the repositories have no PostgreSQL 16: they have 17, 18") {
		t.Errorf("a version that is nowhere: %v", err)
	}
	o.Recipe.Postgres.Major = 0
	w.Entries = slices.DeleteFunc(w.Entries, func(e apkbuild.Entry) bool { return e.Name == "postgresql18" })
	addMajor(w, 15) // this also writes the index
	_, err = resolve.Update(context.Background(), o.Options, []string{resolve.UpdateAll})
	if err == nil || !strings.Contains(err.Error(), "the lock has PostgreSQL 18") || !strings.Contains(err.Error(), "--set postgres.major=17") {
		t.Errorf("the lock's version is gone: %v", err)
	}
}

// TestUpgradeFrom builds a machine that upgrades PostgreSQL. The machine contains the old server
// too; the lock does not change.
func TestUpgradeFrom(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	addMajor(w, 15)
	w.Build(o)
	before := tinybuild.ReadFile(t, o.LockPath)
	o.Recipe.Postgres.UpgradeFrom = 15
	result := w.Build(o)
	if got := servers(result.Lock); !slices.Equal(got, []string{"postgresql15", "postgresql17"}) {
		t.Errorf("the machine has %v", got)
	}
	if tinybuild.ReadFile(t, o.LockPath) != before {
		t.Error("the lock has changed")
	}
	m, err := manifest.Decode([]byte(tinybuild.ReadFile(t, filepath.Join(result.Dir, artifact.ManifestFile))))
	if err != nil || !slices.Equal(m.Postgres, []int{15, 17}) {
		t.Errorf("the manifest has PostgreSQL %v, %v", m.Postgres, err)
	}
	o.Recipe.Postgres.UpgradeFrom = 13
	if _, err := stages.Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), "have no PostgreSQL 13: they have 15, 17: upgrade in hops") {
		t.Errorf("a version that is nowhere: %v", err)
	}
	o.Recipe.Postgres.UpgradeFrom = 18
	if _, err := stages.Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), "must be lower") {
		t.Errorf("from a newer version: %v", err)
	}
}
