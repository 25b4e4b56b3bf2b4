package packages

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// repository writes a repository into a folder and returns its path. packages maps "name-version"
// to dependencies.
func repository(t *testing.T, key *apkbuild.Key, packages map[string][]string) string {
	t.Helper()
	var entries []apkbuild.Entry
	for id, depends := range packages {
		i := strings.Index(id, "-")
		// Every package has a file: the solver takes a package without content for a virtual one,
		// without a repository.
		p := apkbuild.Package{Info: apkbuild.Info{Name: id[:i], Version: id[i+1:], Arch: "aarch64", License: "MIT", Depends: depends, BuildTime: time.Unix(1700000000, 0)},
			Files: []apkbuild.File{{Name: "usr/share/" + id, Mode: 0o644, Data: []byte("x")}}}
		entry, err := p.Write(io.Discard, key)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry)
	}
	var b bytes.Buffer
	if err := apkbuild.WriteIndex(&b, key, "test", entries); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "aarch64"), 0o755), os.WriteFile(filepath.Join(dir, "aarch64", "APKINDEX.tar.gz"), b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTags takes from a tagged repository only packages that are requested with the tag, and their
// dependencies.
func TestTags(t *testing.T) {
	key, public := newKey(t)
	stable := repository(t, key, map[string][]string{"app-1": {"lib"}, "lib-1": nil, "other-1": nil})
	edge := repository(t, key, map[string][]string{"app-2": {"lib>1", "only"}, "lib-2": nil, "only-2": nil, "other-2": nil})
	for install, want := range map[string]string{
		"app other":      "app-1 lib-1 other-1",
		"app@edge other": "app-2 lib-2 only-2 other-1",
		"other@edge app": "app-1 lib-1 other-2",
		"only":           "",
	} {
		r, err := Resolve(t.Context(), Request{Base: baseTree(t, nil), Repositories: []string{stable, "@edge " + edge}, Install: strings.Fields(install), Arch: "arm64",
			Keys: map[string]string{key.Name: string(public)}, Client: &fetch.Client{Transport: fetch.Offline}})
		if want == "" {
			if err == nil {
				t.Errorf("%s: %+v", install, r.Packages)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", install, err)
			continue
		}
		got := map[string]bool{}
		for _, p := range r.Packages {
			got[p.Name+"-"+p.Version] = true
			if from := map[bool]string{true: edge, false: stable}[p.Version == "2"]; p.Repository != from {
				t.Errorf("%s: %s is of %s, want %s", install, p.Name, p.Repository, from)
			}
		}
		all := map[string]bool{}
		for _, id := range strings.Fields(want) {
			all[id] = true
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("%s: %s", install, diff)
		}
	}
}

// TestVersion3 expects an error for a repository that only apk version 3 can read. The error must
// name that version.
func TestVersion3(t *testing.T) {
	key, public := newKey(t)
	for _, c := range []struct{ name, content, want string }{
		{"Packages.adb", "ADBd\x01\x02\x03\x04", "apk version 3 (ADB), which is not supported"},
		{"APKINDEX.tar.gz", "ADB.indx\x01\x02", "apk version 3 (ADB), which is not supported"},
		{"Packages.adb", "<html>", "no such file"},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "aarch64"), 0o755), os.WriteFile(filepath.Join(dir, "aarch64", c.name), []byte(c.content), 0o644)); err != nil {
			t.Fatal(err)
		}
		_, err := Resolve(t.Context(), Request{Base: baseTree(t, nil), Repositories: []string{dir}, Install: []string{"app"}, Arch: "arm64",
			Keys: map[string]string{key.Name: string(public)}, Client: &fetch.Client{Transport: fetch.Offline}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
