package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/arch"
)

// cached starts a mirror of mirrortest's cache. It fills the cache if necessary.
func cached(t *testing.T, goarch string) (cache, *Mirror) {
	t.Helper()
	dir := os.Getenv("SOV_MIRROR_DIR")
	m, err := Start(t.Context(), Options{Dir: dir, Arches: []string{goarch}})
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("needs Debian's packages, by apt or in the mirror's cache: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	c, err := openCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, m
}

// TestBuildIsDeterministic makes a cached content again, from the same packages and with the same
// key, in another folder.
func TestBuildIsDeterministic(t *testing.T) {
	c, served := cached(t, "amd64")
	key, _, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{cache: c, key: key, log: noLog}
	first, second := served.contents[0].dir, t.TempDir()
	if err := m.build(t.Context(), served.contents[0].arch, []string{c.debs(served.contents[0].arch, nil, "")}, second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fileNames(t, first), fileNames(t, second)); diff != "" {
		t.Fatalf("files differ:\n%s", diff)
	}
	for _, name := range fileNames(t, first) {
		one, err1 := os.ReadFile(filepath.Join(first, name))
		two, err2 := os.ReadFile(filepath.Join(second, name))
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs (%v, %v)", name, err1, err2)
		}
	}
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestStaleContentGoes makes contents from other packages than the current content. The unused
// content is removed, the served content stays.
func TestStaleContentGoes(t *testing.T) {
	m := &maker{cache: newCache(t), log: noLog}
	a := arch.All()[0]
	contents := map[string]*content{}
	for _, name := range []string{"current", "unused", "served"} {
		dir := m.cache.path("content", a.Go+"-"+name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"format": %d, "debian": [%q]}`, contentFormat, name)
		if err := os.WriteFile(filepath.Join(dir, "content.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := loadContent(dir, a)
		if err != nil {
			t.Fatal(err)
		}
		contents[name] = c
	}
	if err := contents["served"].lock(); err != nil {
		t.Fatal(err)
	}
	defer contents["served"].inUse.Release()
	if err := m.removeStale(a, contents["current"]); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(m.cache.path("content", "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{contents["current"].dir, contents["served"].dir}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("contents left (-want +got):\n%s", diff)
	}
}

// TestFetchDoesNotChangeHost fetches with the real apt and compares the host's lists, status and
// cached packages before and after.
func TestFetchDoesNotChangeHost(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches 45 MB, and -short is set")
	}
	before := hostState(t)
	dir := t.TempDir()
	state := aptState{dir: filepath.Join(dir, "apt"), arch: arch.All()[0]}
	debs := filepath.Join(dir, "debs")
	if err := os.Mkdir(debs, 0o755); err != nil {
		t.Fatal(err)
	}
	err := fetchDebs(t.Context(), state, nil, debs, noLog)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("needs apt and a Debian mirror: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, hostState(t)); diff != "" {
		t.Errorf("the host's apt and dpkg changed (-before +after):\n%s", diff)
	}
	names, err := debNames(debs)
	if err != nil || len(names) < 40 {
		t.Errorf("fetched %d packages (%v)", len(names), err)
	}
}

// hostState returns names and times of files that apt and dpkg might change.
func hostState(t *testing.T) []string {
	t.Helper()
	var state []string
	for _, pattern := range []string{"/var/lib/apt/*", "/var/lib/apt/lists/*", "/var/lib/dpkg/status", "/var/lib/dpkg/arch", "/var/cache/apt/*", "/var/cache/apt/archives/*", "/etc/apt/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			info, err := os.Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			state = append(state, name+" "+info.ModTime().String())
		}
	}
	return state
}
