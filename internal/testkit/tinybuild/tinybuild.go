// Package tinybuild provides a build that takes a second: a small recipe, and servers on loopback
// for everything that the build fetches.
package tinybuild

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// A World provides everything that a build fetches: a registry with a base image, a signed package
// repository, and a kernel that meets the guest's requirements. The registry and the repository are
// real and have small contents.
type World struct {
	T        *testing.T
	Host     string            // address of the server, 127.0.0.1:PORT
	Kernel   string            // path of the kernel
	Packages map[string][]byte // the repository's files by name
	Entries  []apkbuild.Entry  // entries of the repository's index

	key  *apkbuild.Key // signs the repository
	made map[string]*apkbuild.Package

	mu       sync.Mutex
	requests []string                                      // requested paths
	spoil    func(path string, w http.ResponseWriter) bool // may answer instead of the server
}

// SomeTime is the modification time of the base image's files.
var SomeTime = time.Unix(1700000000, 0)

// Arch is the architecture that the tests build for, and AlpineName is Alpine's name for it. The
// tests do not run the results.
const Arch, AlpineName = "arm64", "aarch64"

// New starts the servers, which end with the test.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{T: t, key: signingKey(t), Packages: map[string][]byte{}, made: map[string]*apkbuild.Package{}}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.URL.Path)
		spoil := w.spoil
		w.mu.Unlock()
		switch {
		case spoil != nil && spoil(r.URL.Path, rw):
		case strings.HasPrefix(r.URL.Path, "/v2/"):
			images.ServeHTTP(rw, r)
		default:
			w.serveRepository(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	w.Host = strings.TrimPrefix(server.URL, "http://")
	w.Kernel = filepath.Join(t.TempDir(), "Image")
	w.Write(w.Kernel, FitKernel(t))
	w.Push("base:1", w.BaseFiles())
	w.AddPostgres("17.6-r0")
	return w
}

// signingKey returns one key for all tests: generating a key takes longer than a build.
var signingKey = func() func(*testing.T) *apkbuild.Key {
	once := sync.OnceValues(func() (*apkbuild.Key, error) { return apkbuild.NewKey("test@example.org-1.rsa.pub") })
	return func(t *testing.T) *apkbuild.Key {
		t.Helper()
		key, err := once()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}()

// Write writes a file.
func (w *World) Write(path string, content []byte) {
	w.T.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.T.Fatal(err)
	}
}

// FitKernel returns the smallest file that passes for an arm64 kernel: the header, the banner, and
// a configuration with every option that the guest needs except those in without.
func FitKernel(t *testing.T, without ...string) []byte {
	t.Helper()
	var config strings.Builder
	for _, r := range kernel.Requirements(Arch, kernel.AllFeatures) {
		if !slices.Contains(without, r.Option) {
			fmt.Fprintf(&config, "CONFIG_%s=y\n", r.Option)
		}
	}
	fmt.Fprintf(&config, "CONFIG_CMDLINE=\"root=PARTUUID=%s ro\"\n", kernel.BootPartition)
	var b bytes.Buffer
	header := make([]byte, 64)
	copy(header[56:], "ARM\x64")
	b.Write(header)
	b.WriteString("\nLinux version 6.1.1-test (sov@sov) (gcc) #1 SMP\n\x00IKCFG_ST")
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, config.String()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteString("IKCFG_ED")
	return b.Bytes()
}

// BaseFiles returns the files of an image in Alpine's layout with one package in its database.
func (w *World) BaseFiles() map[string]string {
	w.T.Helper()
	public, err := w.key.PublicPEM()
	if err != nil {
		w.T.Fatal(err)
	}
	return map[string]string{
		"etc/apk/keys/" + w.key.Name: string(public),
		"etc/apk/arch":               AlpineName + "\n",
		"etc/apk/world":              "musl\n",
		"etc/apk/repositories":       "",
		"etc/os-release":             "ID=alpine\nVERSION_ID=3.22.1\n",
		"etc/passwd":                 "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":                  "root:x:0:root\n",
		"etc/shadow":                 "root:*::0:::::\n",
		"lib/ld-musl-aarch64.so.1":   "musl",
		"sbin/e2fsck":                "#!",
		"lib/apk/db/installed": "C:Q1" + strings.Repeat("A", 27) + "=\nP:musl\nV:1.2.5-r0\nA:" + AlpineName + "\nS:4\nI:4\nT:the musl c library\n" +
			"U:https://musl.libc.org/\nL:MIT\no:musl\np:so:libc.musl-aarch64.so.1=1\nF:lib\nR:ld-musl-aarch64.so.1\na:0:0:755\n\n",
		"lib/apk/db/scripts.tar": strings.Repeat("\x00", 1024),
		"lib/apk/db/triggers":    "",
	}
}

// Push pushes an image with one layer to the registry and returns its reference. adjust changes the
// image's configuration.
func (w *World) Push(tag string, files map[string]string, adjust ...func(*v1.Config)) string {
	w.T.Helper()
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[path])), ModTime: SomeTime}
		if strings.Contains(path, "bin/") || strings.HasPrefix(files[path], "#!") {
			h.Mode = 0o755
		}
		if err := t.WriteHeader(h); err != nil {
			w.T.Fatal(err)
		}
		if _, err := io.WriteString(t, files[path]); err != nil {
			w.T.Fatal(err)
		}
	}
	if err := t.Close(); err != nil {
		w.T.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		w.T.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		w.T.Fatal(err)
	}
	img = w.withPlatform(img, adjust...)
	ref := w.Host + "/" + tag
	parsed, err := name.ParseReference(ref)
	if err != nil {
		w.T.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		w.T.Fatal(err)
	}
	return ref
}

// Save writes an image of the registry to path, in the format of docker save, and returns path.
func (w *World) Save(tag, path string) string {
	w.T.Helper()
	ref, err := name.NewTag(w.Host + "/" + tag)
	if err != nil {
		w.T.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		w.T.Fatal(err)
	}
	if err := tarball.WriteToFile(path, ref, img); err != nil {
		w.T.Fatal(err)
	}
	return path
}

func (w *World) withPlatform(img v1.Image, adjust ...func(*v1.Config)) v1.Image {
	w.T.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		w.T.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", Arch
	for _, change := range adjust {
		change(&config.Config)
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		w.T.Fatal(err)
	}
	return img
}

// AddPostgres adds a server and a library that it needs to the repository. The library has a script
// that the recipe does not list.
func (w *World) AddPostgres(version string) {
	w.T.Helper()
	number, _, _ := strings.Cut(version, "-")
	w.AddPackage(&apkbuild.Package{
		Info: apkbuild.Info{Name: "postgresql17", Version: version, License: "PostgreSQL", Provides: []string{"postgresql"}, ProviderPriority: 17,
			Depends: []string{"so:libicu.so.1"}},
		Scripts: map[string][]byte{".pre-install": []byte("#!/bin/sh\nadduser -S postgres\n")},
		Files: []apkbuild.File{
			{Name: "usr/libexec/postgresql17/postgres", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("postgres (PostgreSQL) " + number + "\n\x00ucol_open_76\x00SSL_CTX_use_certificate_chain_file\x00")},
			{Name: "usr/libexec/postgresql17/initdb", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("initdb")},
		},
	})
	w.AddPackage(&apkbuild.Package{
		Info:    apkbuild.Info{Name: "icu-libs", Version: "76.1-r0", License: "ICU", Provides: []string{"so:libicu.so.1=76.1"}},
		Scripts: map[string][]byte{".post-install": []byte("#!/bin/sh\n")},
		Files:   []apkbuild.File{{Name: "usr/lib/libicu.so.1", Type: apkbuild.Regular, Mode: 0o755, Data: bytes.Repeat([]byte("icu"), 1<<15)}},
	})
}

// AddPackage adds a package to the repository and removes a package of the same name.
func (w *World) AddPackage(p *apkbuild.Package) {
	w.T.Helper()
	p.Arch = AlpineName
	var b bytes.Buffer
	entry, err := p.Write(&b, w.key)
	if err != nil {
		w.T.Fatal(err)
	}
	for i, e := range w.Entries {
		if e.Name == entry.Name {
			delete(w.Packages, e.Filename())
			w.Entries = append(w.Entries[:i], w.Entries[i+1:]...)
			break
		}
	}
	w.Entries = append(w.Entries, entry)
	w.Packages[entry.Filename()] = b.Bytes()
	w.made[entry.Name] = p
	b = bytes.Buffer{}
	if err := apkbuild.WriteIndex(&b, w.key, "test", w.Entries); err != nil {
		w.T.Fatal(err)
	}
	w.Packages["APKINDEX.tar.gz"] = b.Bytes()
}

// SignAgain replaces the repository's signatures with larger ones, as after a change of its key.
// The contents stay the same. The private key does too; its name and hash change.
func (w *World) SignAgain() {
	w.T.Helper()
	old := w.key
	defer func() { w.key = old }()
	again := *old
	again.Name = strings.Repeat("again-", 10) + old.Name
	again.SHA256 = true
	w.key = &again
	for _, p := range slices.Collect(maps.Values(w.made)) {
		w.AddPackage(p)
	}
}

func (w *World) serveRepository(rw http.ResponseWriter, r *http.Request) {
	content, ok := w.Packages[strings.TrimPrefix(r.URL.Path, "/main/"+AlpineName+"/")]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	if _, err := rw.Write(content); err != nil {
		w.T.Logf("serve %s: %v", r.URL.Path, err)
	}
}

// Asked returns the paths of the requests since the last call.
func (w *World) Asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.requests
	w.requests = nil
	return asked
}

// Answer lets fn answer requests before the servers do. fn reports whether it answered. A nil fn
// ends this.
func (w *World) Answer(fn func(path string, rw http.ResponseWriter) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoil = fn
}

// Recipe returns a small sql recipe with more, which is YAML, appended.
func (w *World) Recipe(more string) string {
	return `name: tiny
version: "1"
base:
  image: ` + w.Host + `/base:1
packages:
  repositories: ["http://` + w.Host + `/main"]
  install: [postgresql]
  scripts: ["postgresql*"]
users: [{name: postgres, uid: 70, gid: 70}]
` + more
}

// WithPostgres is the part of a recipe that enables PostgreSQL.
const WithPostgres = "postgres: {enabled: true}\n"

// Options returns the options of a build whose lock, cache and artifacts are in dir.
func (w *World) Options(dir, recipeText string) stages.Options {
	w.T.Helper()
	r, err := recipe.Parse("tiny.yaml", []byte(recipeText))
	if err != nil {
		w.T.Fatal(err)
	}
	return stages.Options{
		Options: resolve.Options{Recipe: r, RecipeText: []byte(recipeText), Arch: Arch, Kernel: w.Kernel,
			LockPath: filepath.Join(dir, "sov.lock"), CacheDir: filepath.Join(dir, "cache")},
		Out:     filepath.Join(dir, "out"),
		Program: func(_ context.Context, name, _ string) ([]byte, error) { return []byte("#!" + name), nil },
	}
}

// FileOptions returns the Options of the recipe in a file, in the file's folder.
func (w *World) FileOptions(path string) stages.Options {
	w.T.Helper()
	r, text, err := stages.LoadRecipe(path, recipe.Variant{})
	if err != nil {
		w.T.Fatal(err)
	}
	o := w.Options(filepath.Dir(path), string(text))
	o.Recipe = r
	return o
}

// Build runs a build and fails the test on an error.
func (w *World) Build(o stages.Options) *stages.Result {
	w.T.Helper()
	result, err := stages.Build(context.Background(), o)
	if err != nil {
		w.T.Fatal(err)
	}
	return result
}

// AddLibrary replaces icu-libs in the repository with another version.
func (w *World) AddLibrary(version string) {
	w.T.Helper()
	w.AddPackage(&apkbuild.Package{
		Info:  apkbuild.Info{Name: "icu-libs", Version: version, License: "ICU", Provides: []string{"so:libicu.so.1=76.1"}},
		Files: []apkbuild.File{{Name: "usr/lib/libicu.so.1", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("icu " + version)}},
	})
}

// Contents returns the contents of a directory's files by name, without the list of objects taken
// from caches, which is not part of an artifact.
func Contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == artifact.TakenFile {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// ReadFile returns the content of a file.
func ReadFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Ran returns the names of the stages that were not cached.
func Ran(r *stages.Result) []string {
	var out []string
	for _, s := range r.Stages {
		if s.Status != pipeline.Cached {
			out = append(out, s.Name)
		}
	}
	return out
}
