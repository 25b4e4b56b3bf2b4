package stages_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestBuild(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	result := w.Build(w.Options(dir, w.Recipe(tinybuild.WithPostgres)))

	if want := filepath.Join(dir, "out", "tiny", tinybuild.Arch); result.Dir != want {
		t.Errorf("exported to %s, want %s", result.Dir, want)
	}
	problems, err := manifest.Verify(context.Background(), result.Dir)
	if err != nil || len(problems) > 0 {
		t.Errorf("manifest: %v, %v", problems, err)
	}
	got := sortedKeys(tinybuild.Contents(t, result.Dir))
	want := []string{"SHA256SUMS", "kernel", "manifest.json", "provenance.json", "rootfs.img", "sbom.cdx.json", "sov-runner", "vm.json"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	checkRootfs(t, filepath.Join(result.Dir, "rootfs.img"))
	checkDescriptions(t, result.Dir)

	var warnings []string
	for _, s := range result.Stages {
		warnings = append(warnings, s.Warnings...)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "package icu-libs has scripts that are not run (post-install)") {
		t.Errorf("warnings: %q", warnings)
	}
}

func checkRootfs(t *testing.T, path string) {
	t.Helper()
	if tool, err := exec.LookPath("e2fsck"); err == nil {
		if out, err := exec.Command(tool, "-fn", path).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
	}
	image, err := ext4.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for name, part := range map[string]string{
		"sbin/sov-init":                    "#!sov-init",
		"usr/libexec/postgresql17/initdb":  "initdb",
		"usr/lib/libicu.so.1":              "icuicu",
		"etc/passwd":                       "postgres:x:70:70",
		"etc/sov/postgres/postgresql.conf": "shared_buffers = 256MB",
		"etc/sov/postgres/pg_hba.conf":     "scram-sha-256",
		"etc/apk/world":                    "postgresql",
		"lib/apk/db/installed":             "P:postgresql17",
		"lib/ld-musl-aarch64.so.1":         "musl",
		"etc/hostname":                     "tiny\n",
		"etc/sov/services/postgres.json":   "/usr/libexec/postgresql17/postgres",
	} {
		b, err := fs.ReadFile(image, name)
		if err != nil || !strings.Contains(string(b), part) {
			t.Errorf("%s has no %q: %.80q, %v", name, part, b, err)
		}
	}
	config, err := guestspec.Load(image)
	if err != nil || len(config.Services) != 1 {
		t.Errorf("the init reads %+v, %v", config, err)
	}
}

func checkDescriptions(t *testing.T, dir string) {
	t.Helper()
	files := tinybuild.Contents(t, dir)
	vm, err := vmspec.Decode([]byte(files["vm.json"]))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Decode([]byte(files["manifest.json"]))
	if err != nil || m.Verity == nil {
		t.Fatalf("%v: the manifest has the root hash %v", err, m.Verity)
	}
	root, err := m.Verity.Root()
	if err == nil {
		err = verity.Check(t.Context(), strings.NewReader(files["rootfs.img"]), m.Verity.DataSize, root)
	}
	if err != nil {
		t.Error(err)
	}
	want := strings.Join(verity.Parameters("/dev/vda", m.Verity.DataSize, root), " ") + " ro "
	if vm.MemoryMiB != 1024 || !strings.HasPrefix(vm.Cmdline(), want) || vm.Kernel != "kernel" {
		t.Errorf("vm.json: %+v", vm)
	}
	for _, part := range []string{`"pkg:apk/alpine/postgresql17@17.6-r0?arch=aarch64&distro=alpine-3.22.1"`, `"pkg:apk/alpine/musl@1.2.5-r0?arch=aarch64&distro=alpine-3.22.1"`,
		`"pkg:generic/linux@6.1.1-test"`, `"urn:uuid:`} {
		if !strings.Contains(files["sbom.cdx.json"], part) {
			t.Errorf("the bill of materials has no %s", part)
		}
	}
	var kinds []string
	for _, in := range m.Inputs {
		kinds = append(kinds, in.Kind+" "+in.Name)
	}
	if !slices.Contains(kinds, "package icu-libs") || !slices.Contains(kinds, "recipe tiny") {
		t.Errorf("inputs: %q", kinds)
	}
}

func TestSecondBuildDoesNothing(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	first := w.Build(o)
	if !first.LockWritten || len(tinybuild.Ran(first)) != len(first.Stages)-1 { // resolving has fetched the base
		t.Errorf("first: lock written %v, ran %q", first.LockWritten, tinybuild.Ran(first))
	}
	before := tinybuild.Contents(t, first.Dir)
	w.Asked()

	second := w.Build(o)
	if asked := w.Asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
	if second.LockWritten || len(tinybuild.Ran(second)) > 0 {
		t.Errorf("lock written %v, ran %q", second.LockWritten, tinybuild.Ran(second))
	}
	for _, f := range second.Exported {
		if f.Changed {
			t.Errorf("%s was written again", f.Name)
		}
	}
	if diff := cmp.Diff(before, tinybuild.Contents(t, second.Dir)); diff != "" {
		t.Error("the artifact changed")
	}
	if len(second.Stage("packages").Warnings) != 1 {
		t.Error("the warning is not repeated")
	}
}

// TestRerunStages changes one input after the other.
func TestRerunStages(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	w.Build(w.Options(dir, w.Recipe(tinybuild.WithPostgres)))
	tests := []struct {
		name, more string
		want       string
	}{
		{"a setting", "postgres: {enabled: true, settings: {work_mem: 8MB}}\n", "postgres rootfs bundle"},
		{"a network", "postgres: {enabled: true, networks: [tap]}\n", "postgres rootfs bundle"},
		{"memory, which settings follow", tinybuild.WithPostgres + "vm: {memory: 512MiB}\n", "postgres rootfs bundle"},
		{"processors", tinybuild.WithPostgres + "vm: {cpus: 4}\n", "bundle"},
		{"a port", tinybuild.WithPostgres + "network: {publish: [5432]}\n", "bundle"},
		{"the label", tinybuild.WithPostgres + "rootfs: {label: other}\n", "rootfs bundle"},
		{"a directory", tinybuild.WithPostgres + "directories: [{path: /srv}]\n", "guestinit rootfs bundle"},
		{"a comment", tinybuild.WithPostgres + "# nothing\n", "bundle"}, // the manifest contains the recipe's digest
		{"no PostgreSQL", "", "kernel guestinit rootfs bundle"},         // a given kernel is checked for the machine's features
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result := w.Build(w.Options(dir, w.Recipe(tt.more)))
			if got := strings.Join(tinybuild.Ran(result), " "); got != tt.want {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSameBytes(t *testing.T) {
	w := tinybuild.New(t)
	one, other := t.TempDir(), filepath.Join(t.TempDir(), "a", "deeper", "place")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	o := w.Options(one, w.Recipe(tinybuild.WithPostgres))
	o.Jobs = 1
	first := w.Build(o)
	w.Write(filepath.Join(other, "sov.lock"), []byte(tinybuild.ReadFile(t, filepath.Join(one, "sov.lock"))))
	o = w.Options(other, w.Recipe(tinybuild.WithPostgres))
	o.Jobs = 8
	second := w.Build(o)
	a, b := tinybuild.Contents(t, first.Dir), tinybuild.Contents(t, second.Dir)
	for _, name := range sortedKeys(a) {
		if a[name] != b[name] {
			t.Errorf("%s differs", name)
		}
	}
	o.NoCache = true
	third := w.Build(o)
	if len(tinybuild.Ran(third)) != len(third.Stages) {
		t.Errorf("with NoCache only %q ran", tinybuild.Ran(third))
	}
	if diff := cmp.Diff(b, tinybuild.Contents(t, third.Dir)); diff != "" {
		t.Error("a build without the cache differs")
	}
}

// TestProvenance checks that the statement names the artifact's inputs, and that a signature stays
// only with its artifact.
func TestProvenance(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	o.Builder = "v1.2.3"
	result := w.Build(o)
	statement, err := provenance.Decode([]byte(tinybuild.ReadFile(t, filepath.Join(result.Dir, artifact.ProvenanceFile))))
	if err != nil {
		t.Fatal(err)
	}
	file := w.Packages["icu-libs-76.1-r0.apk"]
	pkg, err := apk.OpenPackage(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, pkg.Content()); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range statement.Predicate.BuildDefinition.ResolvedDependencies {
		found = found || d.Name == "icu-libs-76.1-r0.apk" && d.Digest["apkContent"] == hex.EncodeToString(sum.Sum(nil)) &&
			d.DownloadLocation == "http://"+w.Host+"/main/aarch64/icu-libs-76.1-r0.apk"
	}
	if !found || statement.Version() != "v1.2.3" || statement.Predicate.BuildDefinition.ExternalParameters.Kernel != provenance.KernelFinished {
		t.Errorf("the statement: %+v", statement)
	}

	key, err := dsse.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provenance.Sign(result.Dir, key, provenance.Release{Name: "sql", Serial: 1}); err != nil {
		t.Fatal(err)
	}
	signature := filepath.Join(result.Dir, artifact.SignedFile)
	if err := os.Remove(filepath.Join(result.Dir, "vm.json")); err != nil {
		t.Fatal(err)
	}
	w.Build(o)
	if v, err := provenance.Verify(result.Dir, key.Public()); err != nil || !v.Proven {
		t.Errorf("after the same build again: %+v, %v", v, err)
	}
	o.Recipe.VM.CPUs = 7
	w.Build(o)
	if _, err := os.Lstat(signature); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a signature outlived the artifact it is of: %v", err)
	}
}

func TestLockHolds(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	o := w.Options(dir, w.Recipe(tinybuild.WithPostgres))
	first := w.Build(o)

	w.AddPostgres("17.7-r0")
	w.Push("base:1", map[string]string{"etc/other": "tag moved"})
	second := w.Build(o)
	if diff := cmp.Diff(first.Lock, second.Lock); diff != "" || len(tinybuild.Ran(second)) > 0 {
		t.Errorf("ran %q, lock (-first +second)\n%s", tinybuild.Ran(second), diff)
	}

	w.Push("base:1", w.BaseFiles())
	o.UpdateLock = true
	third := w.Build(o)
	i := slices.IndexFunc(third.Lock.Packages, func(p lock.Package) bool { return p.Name == "postgresql17" })
	if !third.LockWritten || i < 0 || third.Lock.Packages[i].Version != "17.7-r0" {
		t.Errorf("--update-lock gave %+v", third.Lock)
	}
}

func TestStaleLock(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	w.Build(w.Options(dir, w.Recipe(tinybuild.WithPostgres)))
	before := tinybuild.ReadFile(t, filepath.Join(dir, "sov.lock"))
	for name, change := range map[string]func(*stages.Options){
		"image":      func(o *stages.Options) { o.Image = w.Host + "/other:2" },
		"repository": func(o *stages.Options) { o.Repositories = []string{"/srv/packages"} },
		"package":    func(o *stages.Options) { o.Recipe.Packages.Install = []string{"postgresql", "icu-libs"} },
		"kernel":     func(o *stages.Options) { o.Kernel = "" },
	} {
		o := w.Options(dir, w.Recipe(tinybuild.WithPostgres))
		change(&o)
		_, err := stages.Build(context.Background(), o)
		var stale *lock.StaleError
		if !errors.As(err, &stale) || !strings.Contains(err.Error(), "--update-lock") {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if tinybuild.ReadFile(t, filepath.Join(dir, "sov.lock")) != before {
		t.Error("the lock was changed")
	}
}

func TestOffline(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	o := w.Options(dir, w.Recipe(tinybuild.WithPostgres))
	o.Offline = true
	if _, err := stages.Build(context.Background(), o); !errors.Is(err, fetch.ErrOffline) || !strings.Contains(err.Error(), "has no entry for it") {
		t.Errorf("without a lock: %v", err)
	}
	o.Offline = false
	w.Build(o)
	o.Offline = true
	w.Asked()
	w.Build(o)
	o.CacheDir = filepath.Join(dir, "empty")
	if _, err := stages.Build(context.Background(), o); !errors.Is(err, fetch.ErrOffline) || !strings.Contains(err.Error(), "run once without --offline") {
		t.Errorf("with an empty cache: %v", err)
	}
	if asked := w.Asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

// TestBadPeers makes the registry and the repository send wrong content.
func TestBadPeers(t *testing.T) {
	flip := func(b []byte) []byte {
		b = slices.Clone(b)
		b[len(b)-20] ^= 1
		return b
	}
	tests := []struct {
		name string
		bad  func(w *tinybuild.World) func(path string, rw http.ResponseWriter) bool
		want string
	}{
		{"a flipped bit in the index", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return replace("APKINDEX.tar.gz", flip(w.Packages["APKINDEX.tar.gz"]))
		}, "APKINDEX.tar.gz"},
		{"an index with the signature of another key", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			key, err := apkbuild.NewKey("other.rsa.pub")
			if err != nil {
				w.T.Fatal(err)
			}
			var index bytes.Buffer
			if err := apkbuild.WriteIndex(&index, key, "test", w.Entries); err != nil {
				w.T.Fatal(err)
			}
			return replace("APKINDEX.tar.gz", index.Bytes())
		}, "packages.keys"},
		{"an index of another repository", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return replace("APKINDEX.tar.gz", []byte("<html>"))
		}, "APKINDEX.tar.gz"},
		{"a flipped bit in a package", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return replace("icu-libs-76.1-r0.apk", flip(w.Packages["icu-libs-76.1-r0.apk"]))
		}, "icu-libs"},
		{"another package", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return replace("icu-libs-76.1-r0.apk", w.Packages["postgresql17-17.6-r0.apk"])
		}, "icu-libs-76.1-r0.apk"},
		{"a package that is gone", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return func(path string, rw http.ResponseWriter) bool {
				if strings.HasSuffix(path, ".apk") {
					rw.WriteHeader(http.StatusNotFound)
					return true
				}
				return false
			}
		}, "sov lock RECIPE --update "},
		{"a layer of another image", func(w *tinybuild.World) func(string, http.ResponseWriter) bool {
			return func(path string, rw http.ResponseWriter) bool {
				if strings.Contains(path, "/blobs/") {
					fmt.Fprint(rw, strings.Repeat("x", 4000))
					return true
				}
				return false
			}
		}, "sha256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := tinybuild.New(t)
			o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
			w.Answer(tt.bad(w))
			_, err := stages.Build(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if _, err := os.Stat(o.Out); err == nil {
				t.Error("something was exported")
			}
			w.Answer(nil)
			w.Build(o) // no bad content is kept
		})
	}
}

func replace(name string, content []byte) func(string, http.ResponseWriter) bool {
	return func(path string, rw http.ResponseWriter) bool {
		if !strings.HasSuffix(path, "/"+name) {
			return false
		}
		rw.Write(content)
		return true
	}
}

func TestUnknownPackage(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	o.Recipe.Packages.Install = []string{"postgresql", "postgrsql-contrib"}
	_, err := stages.Build(context.Background(), o)
	if err == nil || !strings.Contains(err.Error(), "postgrsql-contrib") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.LockPath); err == nil {
		t.Error("a lock was written")
	}
}

func TestHostileLayer(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	o.Image = w.Push("hostile:1", map[string]string{"../../etc/cron.d/x": "boom"})
	_, err := stages.Build(context.Background(), o)
	if err == nil || !strings.Contains(err.Error(), "leads out of the tree") {
		t.Errorf("got %v", err)
	}
}

// TestImageWithServer builds from images like Docker Hub's postgres without adding packages.
func TestImageWithServer(t *testing.T) {
	w := tinybuild.New(t)
	files := map[string]string{
		"etc/passwd":             "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n",
		"etc/group":              "postgres:x:999:\n",
		"usr/local/bin/initdb":   "initdb",
		"sbin/e2fsck":            "#!",
		"usr/local/bin/postgres": "postgres (PostgreSQL) 16.10\n",
	}
	image := w.Push("postgres:16", files)
	text := "name: tiny\nbase: {image: \"" + image + "\"}\npostgres: {enabled: true}\n"
	result := w.Build(w.Options(t.TempDir(), text))
	if len(result.Lock.Packages) != 0 {
		t.Errorf("packages: %+v", result.Lock.Packages)
	}
	server, err := result.Output("postgres", "postgres.json")
	if err != nil || server.Size == 0 {
		t.Errorf("postgres.json: %+v, %v", server, err)
	}

	delete(files, "usr/local/bin/postgres")
	image = w.Push("none:16", files)
	text = "name: tiny\nbase: {image: \"" + image + "\"}\npostgres: {enabled: true}\n"
	if _, err := stages.Build(context.Background(), w.Options(t.TempDir(), text)); err == nil || !strings.Contains(err.Error(), "there is no PostgreSQL server") {
		t.Errorf("without a server: %v", err)
	}
}

// TestLocalSources builds without a network, from an image in a tarball and a repository in a
// directory.
func TestLocalSources(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	repository := filepath.Join(dir, "packages", tinybuild.AlpineName)
	if err := os.MkdirAll(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range w.Packages {
		w.Write(filepath.Join(repository, name), content)
	}
	o := w.Options(dir, w.Recipe(tinybuild.WithPostgres))
	o.Image = w.Save("base:1", filepath.Join(dir, "base.tar"))
	o.Repositories = []string{filepath.Dir(repository)}
	o.Offline = true
	w.Asked()
	result := w.Build(o)
	if asked := w.Asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
	if text := tinybuild.ReadFile(t, filepath.Join(result.Dir, "manifest.json")); strings.Contains(text, dir) {
		t.Error("the manifest names a directory of this computer")
	}
}

// TestPackageGoesAway builds a recipe that removes a package of the base image.
func TestPackageGoesAway(t *testing.T) {
	w := tinybuild.New(t)
	files := w.BaseFiles()
	files["etc/apk/world"] = "musl\nold\n"
	files["usr/share/old"] = "old"
	files["lib/apk/db/installed"] += "C:Q1" + strings.Repeat("B", 26) + "A=\nP:old\nV:1-r0\nA:" + tinybuild.AlpineName + "\nS:3\nI:3\nT:old\nU:x\nL:MIT\no:old\n" +
		"F:usr\nF:usr/share\nR:old\n\n"
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	o.Image = w.Push("old:1", files)
	o.Recipe.Packages.Install = append(o.Recipe.Packages.Install, "!old")
	result := w.Build(o)
	if diff := cmp.Diff([]string{"old-1-r0"}, result.Lock.Removed); diff != "" {
		t.Errorf("removed (-want +got)\n%s", diff)
	}
	image, err := ext4.OpenFile(filepath.Join(result.Dir, "rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if _, err := fs.Stat(image, "usr/share/old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	db, err := fs.ReadFile(image, "lib/apk/db/installed")
	if err != nil || strings.Contains(string(db), "P:old") {
		t.Errorf("the database still has it: %v", err)
	}
}

// TestFinishedKernel builds with a finished kernel while the lock has a kernel's source.
func TestFinishedKernel(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(""))
	entry := *w.Build(o).Lock
	entry.Kernel = &lock.Kernel{Version: "6.1.1", Source: "https://example.org/linux.tar.xz", SHA256: strings.Repeat("ab", 32), Size: 1}
	if _, err := lock.Update(o.LockPath, entry); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Load(w.Build(o).Dir)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(m.Inputs, func(in manifest.Input) bool { return in.Kind == "kernel" }); i >= 0 {
		t.Errorf("the manifest says that it was made from %+v", m.Inputs[i])
	}
	if again := w.Build(o).Lock; again.Kernel == nil {
		t.Error("the lock forgot the source")
	}
}

// TestWorldWithoutPackages installs a package that the base image already contains.
func TestWorldWithoutPackages(t *testing.T) {
	w := tinybuild.New(t)
	files := w.BaseFiles()
	files["etc/apk/world"] = ""
	o := w.Options(t.TempDir(), w.Recipe(""))
	o.Image = w.Push("bare:1", files)
	o.Recipe.Packages.Install = []string{"musl"}
	result := w.Build(o)
	if len(result.Lock.Packages) > 0 {
		t.Errorf("added %+v", result.Lock.Packages)
	}
	image, err := ext4.OpenFile(filepath.Join(result.Dir, "rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if world, err := fs.ReadFile(image, "etc/apk/world"); err != nil || string(world) != "musl\n" {
		t.Errorf("world is %q, %v", world, err)
	}
}

func TestUnfitKernel(t *testing.T) {
	w := tinybuild.New(t)
	unfit := strings.Replace(string(tinybuild.FitKernel(t)), "IKCFG_ST", "IKCFG_XX", 1)
	w.Write(w.Kernel, []byte(unfit))
	_, err := stages.Build(context.Background(), w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres)))
	if err == nil || !strings.Contains(err.Error(), "CONFIG_IKCONFIG") {
		t.Errorf("got %v", err)
	}
	// A kernel needs options only for the machine's features.
	w.Write(w.Kernel, tinybuild.FitKernel(t, "TUN", "NFT_COMPAT", "DM_CRYPT", "SYSVIPC"))
	w.Build(w.Options(t.TempDir(), w.Recipe("")))
	for rest, want := range map[string]string{tinybuild.WithPostgres: "CONFIG_SYSVIPC", "volumes: [{name: a, size: 1GiB, path: /srv/a, encrypted: true}]\n": "CONFIG_DM_CRYPT"} {
		o := w.Options(t.TempDir(), w.Recipe(rest))
		o.Recipe.Packages.Install = []string{"musl"}
		if _, err := stages.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CONFIG_TUN") {
			t.Errorf("%s: %v, want %s", rest, err, want)
		}
	}
}

func TestLoadRecipe(t *testing.T) {
	if r, text, err := stages.LoadRecipe("sql", recipe.Variant{}); err != nil || r.Name != "sql" || len(text) == 0 {
		t.Errorf("sql: %v", err)
	}
	if _, _, err := stages.LoadRecipe("mysql", recipe.Variant{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the built-in recipes are forge, sql, vault") {
		t.Errorf("mysql: %v", err)
	}
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, []byte("name: mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := stages.LoadRecipe(path, recipe.Variant{}); err == nil || !strings.Contains(err.Error(), "base.image: is missing") {
		t.Errorf("%s: %v", path, err)
	}
	if _, _, err := stages.LoadRecipe("./none.yaml", recipe.Variant{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
