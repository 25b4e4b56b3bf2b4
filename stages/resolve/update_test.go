package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// addServer adds a version of postgresql17 to the repository.
func addServer(w *tinybuild.World, version string, depends ...string) {
	w.T.Helper()
	w.AddPackage(&apkbuild.Package{
		Info: apkbuild.Info{Name: "postgresql17", Version: version, License: "PostgreSQL", Provides: []string{"postgresql"}, ProviderPriority: 17, Depends: depends},
		Files: []apkbuild.File{
			{Name: "usr/libexec/postgresql17/postgres", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("postgres (PostgreSQL) 17.9\n\x00ucol_open_76\x00")},
			{Name: "usr/libexec/postgresql17/initdb", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("initdb")},
		},
	})
}

func changes(list []lock.Change) []string {
	out := []string{}
	for _, c := range list {
		out = append(out, c.String())
	}
	return out
}

func newest(t *testing.T, o stages.Options) []string {
	t.Helper()
	report, err := resolve.Newest(context.Background(), o.Options)
	if err != nil || report.Stale != nil || report.Written {
		t.Fatalf("%+v, %v", report, err)
	}
	return changes(report.Changes)
}

func update(t *testing.T, o stages.Options, words ...string) []string {
	t.Helper()
	report, err := resolve.Update(context.Background(), o.Options, words)
	if err != nil {
		t.Fatal(err)
	}
	if report.Written != (len(report.Changes) > 0) {
		t.Errorf("written %v with changes %v", report.Written, report.Changes)
	}
	return changes(report.Changes)
}

// TestUpdateOne updates one package after the other. The repository has dropped the locked versions
// of the others.
func TestUpdateOne(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	if got := newest(t, o); len(got) > 0 {
		t.Errorf("right after the build: %q", got)
	}
	addServer(w, "17.9-r0", "so:libicu.so.1")
	w.AddLibrary("76.2-r0")
	before := tinybuild.ReadFile(t, o.LockPath)
	both := []string{"~ package icu-libs 76.1-r0 → 76.2-r0", "~ package postgresql17 17.6-r0 → 17.9-r0"}
	if diff := cmp.Diff(both, newest(t, o)); diff != "" {
		t.Errorf("newer (-want +got)\n%s", diff)
	}
	if tinybuild.ReadFile(t, o.LockPath) != before {
		t.Error("asking changed the lock")
	}

	if diff := cmp.Diff(both[:1], update(t, o, "icu-libs")); diff != "" {
		t.Errorf("update of one (-want +got)\n%s", diff)
	}
	after := tinybuild.ReadFile(t, o.LockPath)
	if lines := changedLines(before, after); lines != 1 {
		t.Errorf("%d lines of the lock changed\n%s", lines, cmp.Diff(before, after))
	}
	result := w.Build(o) // 17.6 comes from the cache
	if i := slices.IndexFunc(result.Lock.Packages, func(p lock.Package) bool { return p.Name == "postgresql17" }); result.Lock.Packages[i].Version != "17.6-r0" {
		t.Errorf("built with %+v", result.Lock.Packages)
	}
	if diff := cmp.Diff(both[1:], update(t, o, "postgresql")); diff != "" { // by the name that it provides
		t.Errorf("update of the other (-want +got)\n%s", diff)
	}
	if got := update(t, o, "postgresql17", "icu-libs"); len(got) > 0 {
		t.Errorf("again: %q", got)
	}
	if _, err := resolve.Update(context.Background(), o.Options, []string{"icu"}); err == nil || !strings.Contains(err.Error(), "no package of that name") {
		t.Errorf("an unknown name: %v", err)
	}
}

func changedLines(a, b string) (n int) {
	had := strings.Split(a, "\n")
	for _, line := range strings.Split(b, "\n") {
		if !slices.Contains(had, line) {
			n++
		}
	}
	return n
}

// TestUpdateMovesWhatItNeeds updates a server that requires a newer library. The library is updated
// and reported too.
func TestUpdateMovesWhatItNeeds(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	addServer(w, "17.9-r0", "icu-libs>76.1-r0")
	w.AddLibrary("76.2-r0")
	want := []string{"~ package icu-libs 76.1-r0 → 76.2-r0", "~ package postgresql17 17.6-r0 → 17.9-r0"}
	if diff := cmp.Diff(want, update(t, o, "postgresql17")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.Build(o)
}

// TestUpdateForTheRecipe adds a package to the recipe. The update must change only this package.
func TestUpdateForTheRecipe(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	w.AddLibrary("76.2-r0")
	w.AddPackage(&apkbuild.Package{Info: apkbuild.Info{Name: "tool", Version: "1-r0", License: "MIT", Depends: []string{"icu-libs"}}})
	o.Recipe.Packages.Install = append(o.Recipe.Packages.Install, "tool")
	report, err := resolve.Newest(context.Background(), o.Options)
	var stale *lock.StaleError
	if err != nil || !errors.As(report.Stale, &stale) {
		t.Fatalf("%+v, %v", report, err)
	}
	if diff := cmp.Diff([]string{"+ package tool 1-r0"}, update(t, o, "tool")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.Build(o)
}

func TestUpdateImage(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	files := w.BaseFiles()
	files["etc/new"] = "new"
	w.Push("base:1", files)
	w.AddLibrary("76.2-r0")
	if got := newest(t, o); len(got) != 2 || !strings.HasPrefix(got[0], "~ image "+w.Host+"/base:1 sha256:") {
		t.Errorf("newer: %q", got)
	}
	if got := update(t, o, resolve.UpdateImage); len(got) != 1 || !strings.HasPrefix(got[0], "~ image ") {
		t.Errorf("updated: %q", got)
	}
	w.Build(o)
	if got := update(t, o, resolve.UpdateAll); len(got) != 1 || !strings.HasPrefix(got[0], "~ package icu-libs ") {
		t.Errorf("updated: %q", got)
	}
	w.Build(o)
}

func TestNoEntry(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	if _, err := resolve.Newest(context.Background(), o.Options); !errors.Is(err, resolve.ErrNoEntry) {
		t.Errorf("newest: %v", err)
	}
	if _, err := resolve.Update(context.Background(), o.Options, []string{"icu-libs"}); !errors.Is(err, resolve.ErrNoEntry) {
		t.Errorf("update: %v", err)
	}
	if got := update(t, o, resolve.UpdateAll); len(got) != 3 { // the image and two packages
		t.Errorf("all: %q", got)
	}
}

// TestMirrorDropsPackage builds after the repository has dropped the locked version. A cache that
// has it is sufficient. Otherwise the error names the remedy.
func TestMirrorDropsPackage(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	o := w.Options(dir, w.Recipe(tinybuild.WithPostgres))
	want := tinybuild.Contents(t, w.Build(o).Dir)
	w.AddLibrary("76.2-r0")
	if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	o.NoCache = false
	if diff := cmp.Diff(want, tinybuild.Contents(t, w.Build(o).Dir)); diff != "" {
		t.Error("from the cache it is another artifact")
	}
	o.CacheDir = filepath.Join(dir, "empty")
	_, err := stages.Build(context.Background(), o)
	for _, part := range []string{"icu-libs 76.1-r0 is no longer in", "--bundle", "sov lock RECIPE --update icu-libs"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
}

func TestWhy(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	w.Asked()
	for name, want := range map[string]string{
		"icu-libs":     "postgresql17 because of postgresql, icu-libs because of so:libicu.so.1",
		"postgresql17": "postgresql17 because of postgresql",
		"musl":         "musl because of musl",
	} {
		reason, err := resolve.Why(context.Background(), o.Options, name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range reason.Chains[0] {
			got = append(got, fmt.Sprintf("%s because of %s", l.Package.Name, l.Reason))
		}
		if len(reason.Chains) != 1 || strings.Join(got, ", ") != want {
			t.Errorf("%s: %d chains, %q, want %q", name, len(reason.Chains), got, want)
		}
	}
	if _, err := resolve.Why(context.Background(), o.Options, "icu"); err == nil || !strings.Contains(err.Error(), "there is icu-libs") {
		t.Errorf("icu: %v", err)
	}
	if asked := w.Asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}
