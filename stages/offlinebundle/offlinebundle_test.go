package offlinebundle_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// writeBundle writes a bundle for a build's options and returns its path.
func writeBundle(t *testing.T, o stages.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sql.sovbundle")
	if _, err := offlinebundle.Write(context.Background(), o.Options, path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestForgedBundle requires a signature.
func TestForgedBundle(t *testing.T) {
	w := tinybuild.New(t)
	here := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(here)
	key, err := dsse.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sql.sovbundle")
	there := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	there.Bundle, there.Offline, there.BundleKey = path, true, key.Public()
	for _, signer := range []dsse.PrivateKey{nil, key, nil} { // writing again without a key removes the signature
		if _, err := offlinebundle.Write(t.Context(), here.Options, path, signer); err != nil {
			t.Fatal(err)
		}
		_, err := stages.Build(t.Context(), there)
		if refused := errors.Is(err, dsse.ErrRefused); refused != (signer == nil) || !refused && err != nil {
			t.Errorf("signed %v: %v", signer != nil, err)
		}
	}
}

// TestBundle builds from a bundle only: without a network, cache or lock, and after the mirror has
// dropped the packages.
func TestBundle(t *testing.T) {
	w := tinybuild.New(t)
	here := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	want := tinybuild.Contents(t, w.Build(here).Dir)
	path := writeBundle(t, here)
	if again := writeBundle(t, here); tinybuild.ReadFile(t, again) != tinybuild.ReadFile(t, path) {
		t.Error("the same lock makes another bundle")
	}
	cold := here
	cold.CacheDir = t.TempDir()
	if fetched := writeBundle(t, cold); tinybuild.ReadFile(t, fetched) != tinybuild.ReadFile(t, path) {
		t.Error("with an empty cache it is another bundle")
	}
	w.AddLibrary("76.2-r0")
	w.Asked()

	there := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	there.Bundle, there.Offline = path, true
	result := w.Build(there)
	if diff := cmp.Diff(want, tinybuild.Contents(t, result.Dir)); diff != "" {
		t.Error("from the bundle it is another artifact")
	}
	if asked := w.Asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
	if !result.LockWritten || tinybuild.ReadFile(t, there.LockPath) != tinybuild.ReadFile(t, here.LockPath) {
		t.Error("the bundle's lock was not taken over")
	}
	if again := writeBundle(t, there); tinybuild.ReadFile(t, again) != tinybuild.ReadFile(t, path) {
		t.Error("a bundle made of a bundle is another")
	}
	if again := w.Build(there); again.LockWritten || len(tinybuild.Ran(again)) > 0 {
		t.Errorf("again: lock written %v, ran %q", again.LockWritten, tinybuild.Ran(again))
	}
}

// TestBundleWithFlags uses a bundle of a build with another image and repository, without repeating
// the flags.
func TestBundleWithFlags(t *testing.T) {
	w := tinybuild.New(t)
	text := strings.Replace(w.Recipe(tinybuild.WithPostgres), w.Host, "registry.invalid", -1)
	here := w.Options(t.TempDir(), text)
	here.Image, here.Repositories = w.Save("base:1", filepath.Join(t.TempDir(), "base.tar")), []string{"http://" + w.Host + "/main"}
	want := tinybuild.Contents(t, w.Build(here).Dir)
	there := w.Options(t.TempDir(), text)
	there.Bundle, there.Offline = writeBundle(t, here), true
	if err := os.Remove(here.Image); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, tinybuild.Contents(t, w.Build(there).Dir)); diff != "" {
		t.Error("from the bundle it is another artifact")
	}
	changed := w.Options(t.TempDir(), text+"# changed\n")
	changed.Bundle, changed.Offline = there.Bundle, true
	var stale *lock.StaleError
	if _, err := stages.Build(context.Background(), changed); !errors.As(err, &stale) {
		t.Errorf("a recipe that the bundle was not made from: %v", err)
	}
	name, recipe, err := offlinebundle.Recipe(there.Bundle, nil)
	if err != nil || name != "tiny" || string(recipe) != text {
		t.Errorf("the recipe in it: %q, %q, %v", name, recipe, err)
	}
}

// TestDamagedBundle flips a bit of each item, and truncates the bundle. The build must not write an
// artifact.
func TestDamagedBundle(t *testing.T) {
	w := tinybuild.New(t)
	here := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(here)
	good := []byte(tinybuild.ReadFile(t, writeBundle(t, here)))
	refuse := func(what string, content []byte) {
		t.Helper()
		there := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
		there.Bundle, there.Offline = filepath.Join(t.TempDir(), "bad"), true
		w.Write(there.Bundle, content)
		if _, err := stages.Build(context.Background(), there); err == nil || errors.Is(err, fetch.ErrOffline) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(there.Out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was exported: %v", what, err)
		}
	}
	for at := 0; ; {
		next := bytes.Index(good[at:], []byte("blobs/"))
		if next < 0 {
			break
		}
		at += next + 6
		bad := bytes.Clone(good)
		bad[(at-6)+512] ^= 1 // the first byte of the content after the header
		refuse("a bit of "+string(good[at:at+12]), bad)
	}
	refuse("the end is missing", good[:len(good)-2000])
}

// TestBundleLacks fetches only what a bundle of another lock does not contain.
func TestBundleLacks(t *testing.T) {
	w := tinybuild.New(t)
	here := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(here)
	old := writeBundle(t, here)
	w.AddLibrary("76.2-r0")
	if _, err := resolve.Update(context.Background(), here.Options, []string{"icu-libs"}); err != nil {
		t.Fatal(err)
	}
	here.Bundle, here.CacheDir = old, t.TempDir()
	w.Answer(func(path string, rw http.ResponseWriter) bool {
		if strings.HasPrefix(path, "/v2/") || strings.Contains(path, "postgresql17") {
			t.Errorf("asked for %s", path)
		}
		return false
	})
	w.Build(here)
	w.Answer(nil)
	here.Offline, here.CacheDir = true, t.TempDir()
	if _, err := stages.Build(context.Background(), here); !errors.Is(err, fetch.ErrOffline) || !strings.Contains(err.Error(), "icu-libs") {
		t.Errorf("offline: %v", err)
	}
}
