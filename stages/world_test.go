package stages

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/kernel"
)

// A world is all that a build takes from outside: a registry with a base image,
// a signed package repository, and a kernel that meets the guest's needs. The
// registry and the repository are real ones, on loopback, with small contents.
type world struct {
	t        *testing.T
	host     string            // of the server, 127.0.0.1:PORT
	kernel   string            // path of a finished kernel
	key      *apkbuild.Key     // signs the repository
	packages map[string][]byte // the repository's files by name
	entries  []apkbuild.Entry

	mu       sync.Mutex
	requests []string                                      // paths asked for so far
	spoil    func(path string, w http.ResponseWriter) bool // answers in the server's place
}

// arch is the architecture that the tests build for; which one does not matter,
// as nothing of it is run.
const arch, alpineName = "arm64", "aarch64"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, key: signingKey(t), packages: map[string][]byte{}}
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
	w.host = strings.TrimPrefix(server.URL, "http://")
	w.kernel = filepath.Join(t.TempDir(), "Image")
	w.write(w.kernel, fitKernel(t))
	w.push("base:1", w.baseFiles())
	w.addPostgres("17.6-r0")
	return w
}

// signingKey is made once: a key takes longer than a build.
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

func (w *world) write(path string, content []byte) {
	w.t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// fitKernel is the least that passes for a kernel of arm64: the header, the
// banner, and a configuration with every option that the guest needs.
func fitKernel(t *testing.T) []byte {
	t.Helper()
	var config strings.Builder
	for _, r := range kernel.Requirements(arch) {
		fmt.Fprintf(&config, "CONFIG_%s=y\n", r.Option)
	}
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

// baseFiles are those of an image in Alpine's layout with one package in its
// database.
func (w *world) baseFiles() map[string]string {
	w.t.Helper()
	public, err := w.key.PublicPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]string{
		"etc/apk/keys/" + w.key.Name: string(public),
		"etc/apk/arch":               alpineName + "\n",
		"etc/apk/world":              "musl\n",
		"etc/apk/repositories":       "",
		"etc/passwd":                 "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":                  "root:x:0:root\n",
		"etc/shadow":                 "root:*::0:::::\n",
		"lib/ld-musl-aarch64.so.1":   "musl",
		"lib/apk/db/installed": "C:Q1" + strings.Repeat("A", 27) + "=\nP:musl\nV:1.2.5-r0\nA:" + alpineName + "\nS:4\nI:4\nT:the musl c library\n" +
			"U:https://musl.libc.org/\nL:MIT\no:musl\np:so:libc.musl-aarch64.so.1=1\nF:lib\nR:ld-musl-aarch64.so.1\na:0:0:755\n\n",
		"lib/apk/db/scripts.tar": strings.Repeat("\x00", 1024),
		"lib/apk/db/triggers":    "",
	}
}

// push puts an image of one layer into the registry and returns its reference.
func (w *world) push(tag string, files map[string]string) string {
	w.t.Helper()
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, path := range sortedKeys(files) {
		h := &tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[path])), ModTime: someTime}
		if strings.Contains(path, "/bin/") {
			h.Mode = 0o755
		}
		if err := t.WriteHeader(h); err != nil {
			w.t.Fatal(err)
		}
		if _, err := io.WriteString(t, files[path]); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := t.Close(); err != nil {
		w.t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		w.t.Fatal(err)
	}
	img = w.withPlatform(img)
	ref := w.host + "/" + tag
	parsed, err := name.ParseReference(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		w.t.Fatal(err)
	}
	return ref
}

// save writes an image of the registry as docker save does and returns the path.
func (w *world) save(tag, path string) string {
	w.t.Helper()
	ref, err := name.NewTag(w.host + "/" + tag)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := tarball.WriteToFile(path, ref, img); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) withPlatform(img v1.Image) v1.Image {
	w.t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// addPostgres puts a server into the repository: the package, a library that it
// needs, and one that has a script nobody accounted for.
func (w *world) addPostgres(version string) {
	w.t.Helper()
	number, _, _ := strings.Cut(version, "-")
	w.addPackage(&apkbuild.Package{
		Info: apkbuild.Info{Name: "postgresql17", Version: version, License: "PostgreSQL", Provides: []string{"postgresql"}, ProviderPriority: 17,
			Depends: []string{"so:libicu.so.1"}},
		Scripts: map[string][]byte{".pre-install": []byte("#!/bin/sh\nadduser -S postgres\n")},
		Files: []apkbuild.File{
			{Name: "usr/libexec/postgresql17/postgres", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("postgres (PostgreSQL) " + number + "\n\x00ucol_open_76\x00")},
			{Name: "usr/libexec/postgresql17/initdb", Type: apkbuild.Regular, Mode: 0o755, Data: []byte("initdb")},
		},
	})
	w.addPackage(&apkbuild.Package{
		Info:    apkbuild.Info{Name: "icu-libs", Version: "76.1-r0", License: "ICU", Provides: []string{"so:libicu.so.1=76.1"}},
		Scripts: map[string][]byte{".post-install": []byte("#!/bin/sh\n")},
		Files:   []apkbuild.File{{Name: "usr/lib/libicu.so.1", Type: apkbuild.Regular, Mode: 0o755, Data: bytes.Repeat([]byte("icu"), 1<<15)}},
	})
}

// addPackage writes a package into the repository, in place of one of its name.
func (w *world) addPackage(p *apkbuild.Package) {
	w.t.Helper()
	p.Arch = alpineName
	var b bytes.Buffer
	entry, err := p.Write(&b, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, e := range w.entries {
		if e.Name == entry.Name {
			delete(w.packages, e.Filename())
			w.entries = append(w.entries[:i], w.entries[i+1:]...)
			break
		}
	}
	w.entries = append(w.entries, entry)
	w.packages[entry.Filename()] = b.Bytes()
	b = bytes.Buffer{}
	if err := apkbuild.WriteIndex(&b, w.key, "test", w.entries); err != nil {
		w.t.Fatal(err)
	}
	w.packages["APKINDEX.tar.gz"] = b.Bytes()
}

func (w *world) serveRepository(rw http.ResponseWriter, r *http.Request) {
	content, ok := w.packages[strings.TrimPrefix(r.URL.Path, "/main/"+alpineName+"/")]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	if _, err := rw.Write(content); err != nil {
		w.t.Logf("serve %s: %v", r.URL.Path, err)
	}
}

// asked returns and forgets the requests so far.
func (w *world) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.requests
	w.requests = nil
	return asked
}

// answer has fn answer requests before the servers; nil ends that.
func (w *world) answer(fn func(path string, rw http.ResponseWriter) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoil = fn
}

// recipe is a small sql, with more YAML behind it.
func (w *world) recipe(more string) string {
	return `name: tiny
version: "1"
base:
  image: ` + w.host + `/base:1
packages:
  repositories: ["http://` + w.host + `/main"]
  install: [postgresql]
  scripts: ["postgresql*"]
users: [{name: postgres, uid: 70, gid: 70}]
` + more
}

const withPostgres = "postgres: {enabled: true}\n"

// options are those of a build in a directory with a lock, a cache and a
// folder for artifacts.
func (w *world) options(dir, recipeText string) Options {
	w.t.Helper()
	r, err := recipe.Parse("tiny.yaml", []byte(recipeText))
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{
		Recipe: r, RecipeText: []byte(recipeText), Arch: arch, Kernel: w.kernel,
		LockPath: filepath.Join(dir, "sov.lock"), CacheDir: filepath.Join(dir, "cache"), Out: filepath.Join(dir, "out"),
		Program: func(name, _ string) ([]byte, error) { return []byte("#!" + name), nil },
	}
}

// build builds and fails the test if that does not work.
func (w *world) build(o Options) *Result {
	w.t.Helper()
	result, err := Build(context.Background(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}
