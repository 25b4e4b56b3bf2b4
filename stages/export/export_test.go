package export

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/formats"
)

const arch = "arm64"

// contents returns the files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// bundled puts files and their manifest into a store, like a build's bundle.
func bundled(t *testing.T, store *pipeline.Store, files map[string]string) *pipeline.Result {
	t.Helper()
	m := &manifest.Manifest{Format: manifest.Format, Name: "tiny", Arch: arch}
	st := pipeline.StageResult{Name: bundle.Name}
	put := func(name, content string) {
		b, err := store.Put(context.Background(), strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		st.Outputs = append(st.Outputs, pipeline.Output{Name: name, Blob: b})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		put(name, files[name])
		m.Files = append(m.Files, manifest.Describe(name, []byte(files[name])))
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(artifact.ManifestFile, string(text))
	return &pipeline.Result{Stages: []pipeline.StageResult{st}}
}

func openStore(t *testing.T) *pipeline.Store {
	t.Helper()
	store, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// others returns the files of a directory except the manifest.
func others(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := contents(t, dir)
	delete(files, artifact.ManifestFile)
	return files
}

func TestExportReplacesAsAWhole(t *testing.T) {
	store := openStore(t)
	dir := filepath.Join(t.TempDir(), "out", "tiny", arch)
	ctx := context.Background()
	if _, err := Artifact(ctx, store, bundled(t, store, map[string]string{"a": "1", "stale": "2", "same": "3"}), dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := Artifact(ctx, store, bundled(t, store, map[string]string{"a": "new", "same": "3", "added": "4"}), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "new", "same": "3", "added": "4", "notes.txt": "mine"}
	if diff := cmp.Diff(want, others(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var changed []string
	for _, f := range files {
		if f.Changed {
			changed = append(changed, f.Name)
		}
	}
	if !slices.Equal(changed, []string{"a", "added", artifact.ManifestFile}) {
		t.Errorf("changed: %q", changed)
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("left beside it: %v, %v", left, err)
	}
}

func TestExportTwiceWritesOnce(t *testing.T) {
	store := openStore(t)
	dir := filepath.Join(t.TempDir(), "tiny")
	result := bundled(t, store, map[string]string{"a": "1"})
	if _, err := Artifact(context.Background(), store, result, dir); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Artifact(context.Background(), store, result, dir); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the directory was re-created")
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Artifact(context.Background(), store, result, dir); err != nil {
		t.Fatal(err)
	}
	if got := others(t, dir)["a"]; got != "1" {
		t.Errorf("a file that was changed by hand is %q", got)
	}
}

func TestExportFails(t *testing.T) {
	s := openStore(t)
	dir := filepath.Join(t.TempDir(), "tiny")
	old := bundled(t, s, map[string]string{"a": "1", "b": "2"})
	if _, err := Artifact(context.Background(), s, old, dir); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	next := bundled(t, s, map[string]string{"a": "new", "b": "new too"})

	check := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("%s: the artifact changed\n%s", what, diff)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
			t.Errorf("%s: left beside it: %v, %v", what, left, err)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Artifact(cancelled, s, next, dir)
	check("cancelled", err, context.Canceled)

	missing := *next
	missing.Stages[0].Outputs = slices.Clone(missing.Stages[0].Outputs)
	missing.Stages[0].Outputs[1].Digest = pipeline.DigestOf([]byte("never stored"))
	var bad *store.BlobError
	_, err = Artifact(context.Background(), s, &missing, dir)
	if !errors.As(err, &bad) {
		t.Errorf("missing blob: %v", err)
	}
	check("missing blob", err, err)
}

func TestExportDiskFull(t *testing.T) {
	full := mounttest.Tmpfs(t, "64k")
	store := openStore(t)
	dir := filepath.Join(full, "tiny")
	if _, err := Artifact(context.Background(), store, bundled(t, store, map[string]string{"a": "small"}), dir); err != nil {
		t.Fatal(err)
	}
	_, err := Artifact(context.Background(), store, bundled(t, store, map[string]string{"a": strings.Repeat("large", 1<<16)}), dir)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(map[string]string{"a": "small"}, others(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestExportReadOnly expects an error that names the folder of the user and the cause.
func TestExportReadOnly(t *testing.T) {
	parent := mounttest.Tmpfs(t, "64k")
	if err := unix.Mount("", parent, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	store := openStore(t)
	_, err := Artifact(context.Background(), store, bundled(t, store, map[string]string{"a": "small"}), filepath.Join(parent, "tiny"))
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "("+parent+" is on a read-only file system: ") {
		t.Errorf("got %v", err)
	}
}

// TestExportAfterKill cleans up after exports that were killed during a swap by renames, after a
// swap, and while they gathered files.
func TestExportAfterKill(t *testing.T) {
	store := openStore(t)
	dir := filepath.Join(t.TempDir(), "tiny")
	if _, err := Artifact(context.Background(), store, bundled(t, store, map[string]string{"a": "old", "stale": "x"}), dir); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(dir), stagingPrefix(dir)+"1234")
	if err := os.Rename(dir, left); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"notes.txt": "mine", ".a.part-1": "half"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, content := range []string{"new", "newer"} {
		if _, err := Artifact(context.Background(), store, bundled(t, store, map[string]string{"a": content}), dir); err != nil {
			t.Fatal(err)
		}
		// Leave files of exports that were killed after the swap, and while they gathered files.
		for name, file := range map[string]string{"behind": "more.txt", "amid": ".a.part-1"} {
			path := filepath.Join(filepath.Dir(dir), stagingPrefix(dir)+name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("mine too"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]string{"a": "newer", "notes.txt": "mine", "more.txt": "mine too"}
	if diff := cmp.Diff(want, others(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}

func TestSwapByRename(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, d := range []string{a, b} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "name"), []byte(filepath.Base(d)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := swapByRename(a, b); err != nil {
		t.Fatal(err)
	}
	if contents(t, a)["name"] != "b" || contents(t, b)["name"] != "a" {
		t.Error("the directories did not change places")
	}
}

// TestExportFormats writes other forms of an artifact beside it, and removes those that a build no
// longer makes.
func TestExportFormats(t *testing.T) {
	store := openStore(t)
	dir := filepath.Join(t.TempDir(), "out", "tiny", arch)
	export := func(result *pipeline.Result) map[string]string {
		t.Helper()
		if _, err := Artifact(t.Context(), store, result, dir); err != nil {
			t.Fatal(err)
		}
		return others(t, dir)
	}
	with := bundled(t, store, map[string]string{"a": "1"})
	files := formats.Files("tiny")
	for i, name := range formats.Names() {
		b, err := store.Put(t.Context(), strings.NewReader(name))
		if err != nil {
			t.Fatal(err)
		}
		with.Stages = append(with.Stages, pipeline.StageResult{Name: name, Outputs: []pipeline.Output{{Name: files[i], Blob: b}}})
	}
	want := map[string]string{"a": "1", "sov-tiny.zip": "module", "rootfs.simg": "simg", "rootfs.img.zst": "raw.zst", "disk.img": "disk"}
	if diff := cmp.Diff(want, export(with)); diff != "" {
		t.Errorf("all forms (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "1"}, export(bundled(t, store, map[string]string{"a": "1"}))); diff != "" {
		t.Errorf("none (-want +got)\n%s", diff)
	}
}
