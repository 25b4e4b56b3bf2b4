package tailscale

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/gobuild"
)

func TestVersion(t *testing.T) {
	f, err := modfile.Parse("tailscaled.mod", goMod, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Replace) > 0 {
		t.Error("the pinned module replaces others: go.sum does not vouch for what is built")
	}
	if v := Version(); !strings.HasPrefix(v, "v1.") {
		t.Errorf("Version() = %q", v)
	}
	for _, line := range []string{"tailscale.com " + Version() + " h1:", "tailscale.com " + Version() + "/go.mod h1:"} {
		if !strings.Contains(string(goSum), line) {
			t.Errorf("tailscaled.sum has no line %q", line)
		}
	}
}

// TestTagsExist finds features that were renamed. go build accepts any tag and would silently
// include such a feature again.
func TestTagsExist(t *testing.T) {
	for _, feature := range certificates {
		if !slices.Contains(omitted, feature) {
			t.Errorf("%s is in every image", feature)
		}
		omits := func(o Options) bool { return slices.Contains(strings.Split(o.buildTags(), ","), "ts_omit_"+feature) }
		if omits(Options{Certificates: true}) || !omits(Options{}) {
			t.Errorf("%s is in an image without certificates, or in none", feature)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(omitted)))) != len(omitted) {
		t.Error("a feature is named twice")
	}
	modules := goEnv(t, "GOMODCACHE")
	dir := filepath.Join(modules, "tailscale.com@"+Version(), "feature", "buildfeatures")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("needs tailscale.com in Go's module cache: a build of the sql recipe puts it there")
	}
	for _, feature := range omitted {
		if _, err := os.Stat(filepath.Join(dir, "feature_"+feature+"_disabled.go")); err != nil {
			t.Errorf("Tailscale %s has no feature %q to omit", Version(), feature)
		}
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestModulesFromBundle puts the modules of a build into a bundle and lists the packages to
// compile, without a network and with an empty module cache. Modules that this computer's module
// cache lacks are fetched first.
func TestModulesFromBundle(t *testing.T) {
	files, root, err := Modules(t.Context(), Options{Arch: "arm64"}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	index := &offline.Index{Format: offline.Format}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		index.Items = append(index.Items, offline.Item{Kind: offline.Module, Name: name, Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b))})
	}
	path := filepath.Join(t.TempDir(), "bundle")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(offline.Write(f, index, func(i offline.Item) (io.ReadCloser, error) { return os.Open(filepath.Join(root, i.Name)) }), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := offline.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()

	empty := t.TempDir()
	t.Setenv("GOMODCACHE", empty)
	t.Cleanup(func() {
		clean := exec.Command("go", "clean", "-modcache")
		clean.Env = append(os.Environ(), "GOMODCACHE="+empty)
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("go clean: %v: %s", err, out)
		}
	})
	list := func(s *stage) (string, error) {
		dir := t.TempDir()
		program, err := s.goCommand().Path()
		if err != nil {
			t.Fatal(err)
		}
		env, err := s.goCommand().Environment(t.Context(), s.Arch)
		if err != nil {
			t.Fatal(err)
		}
		if env, err = gobuild.WithBundle(env, s.Bundle, filepath.Join(dir, "a proxy")); err != nil {
			t.Fatal(err)
		}
		src, err := writeModule(dir)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "list", "-deps", "-tags", Options{}.buildTags(), command)
		cmd.Dir, cmd.Env = src, env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := list(&stage{Options{Arch: "arm64", Offline: true}}); err == nil {
		t.Errorf("without the bundle: %s", out)
	}
	if out, err := list(&stage{Options{Arch: "arm64", Offline: true, Bundle: bundle}}); err != nil || !strings.Contains(out, command) {
		t.Errorf("with the bundle: %v\n%s", err, out)
	}
}

func build(t *testing.T, ctx context.Context, stages ...pipeline.Stage) (*pipeline.Store, *pipeline.Result, error) {
	t.Helper()
	store, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	result, err := (&pipeline.Engine{Store: store}).Build(ctx, stages)
	return store, result, err
}

func TestNoGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := build(t, t.Context(), New(Options{Arch: "arm64"}))
	if !errors.Is(err, gobuild.ErrNoGo) || !strings.Contains(err.Error(), "turn Tailscale off") {
		t.Errorf("without Go: %v, want ErrNoGo", err)
	}
	missing := filepath.Join(t.TempDir(), "go")
	if _, _, err := build(t, t.Context(), New(Options{Arch: "arm64", Go: missing})); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with Go at a wrong path: %v", err)
	}
}

// script writes a shell script that replaces the go command, and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOldGo(t *testing.T) {
	old := script(t, "echo go1.21.13\n")
	_, _, err := build(t, t.Context(), New(Options{Arch: "arm64", Go: old}))
	if err == nil || !strings.Contains(err.Error(), "is go1.21.13; install a newer one") {
		t.Errorf("with an old Go: %v", err)
	}
}

func TestOfflineWithoutModules(t *testing.T) {
	t.Setenv("GOMODCACHE", t.TempDir())
	_, _, err := build(t, t.Context(), New(Options{Arch: "arm64", Offline: true}))
	if err == nil || !strings.Contains(err.Error(), "module lookup disabled") || !strings.Contains(err.Error(), "run once without --offline") {
		t.Errorf("offline with an empty module cache: %v", err)
	}
}

// TestOutputs replaces the go command with a script whose output is the go command itself: a Go
// program like tailscaled, and available.
func TestOutputs(t *testing.T) {
	program, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	handOut := script(t, fmt.Sprintf(`
[ "$1" = env ] && exec %q "$@"
[ "$1" = list ] && exit
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
echo "net/http" >&2
cp -L %q "$out"
`, program, program))
	store, result, err := build(t, t.Context(), New(Options{Arch: "amd64", Go: handOut}))
	if err != nil {
		t.Fatal(err)
	}
	outputs := result.Stage(Name).Outputs
	if len(outputs) != 2 || outputs[0].Name != TarOutput || outputs[1].Name != InfoOutput {
		t.Fatalf("outputs %+v", outputs)
	}
	tar, err := store.Open(outputs[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	// Directories above the program keep the metadata of the layers below.
	got, kept := tree.New(), &tree.Inode{Mode: tree.S_IFDIR | 0o750, GID: 5, ModTime: time.Unix(7, 0)}
	if err := got.Put("usr/sbin", kept); err != nil {
		t.Fatal(err)
	}
	if err := got.ApplyTar(tar, outputs[0].Size, tree.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	daemon, ok := got.Lookup("usr/sbin/tailscaled")
	if !ok || daemon.Mode != tree.S_IFREG|0o755 || daemon.UID != 0 || daemon.ModTime.Unix() != 0 {
		t.Errorf("usr/sbin/tailscaled: %+v", daemon)
	}
	if dir, _ := got.Lookup("usr/sbin"); dir.Mode != tree.S_IFDIR|0o750 || dir.GID != 5 || dir.ModTime.Unix() != 7 {
		t.Errorf("usr/sbin is now %+v", dir)
	}
	if p, n, err := got.Resolve("usr/bin/tailscale"); err != nil || n != daemon {
		t.Errorf("usr/bin/tailscale leads to %s, %v", p, err)
	}
}

// TestConfined replaces the go command with a script that tries, while it compiles, to reach
// outside the build.
func TestConfined(t *testing.T) {
	if err := confine.Check(t.Context()); err != nil {
		t.Skip(err)
	}
	program, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("c4n4ry"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]string{
		"reading":           "cat " + outside,
		"reading accounts":  "cat /etc/shadow",
		"writing":           "echo changed > " + outside,
		"writing modules":   "touch " + goEnv(t, "GOMODCACHE") + "/x",
		"writing the cache": "touch " + goEnv(t, "GOCACHE") + "/x",
		"the network":       "test $(wc -l < /proc/net/dev) -gt 3",
		"root":              "test $(id -u) = 0",
		"output elsewhere":  "ln -s " + outside + " $out && exit",
	} {
		hostile := script(t, fmt.Sprintf(`
[ "$1" = env ] && exec %q "$@"
[ "$1" = list ] && exit
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
%s && echo it worked && cp -L %q "$out"
`, program, try, program))
		_, _, err := build(t, t.Context(), New(Options{Arch: "amd64", Go: hostile}))
		if err == nil || strings.Contains(err.Error(), "it worked") || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(outside); string(b) != "c4n4ry" {
			t.Errorf("%s: a file outside is %q, %v", name, b, err)
		}
	}
}

// TestCancel cancels a build after it has started. A named pipe reports the start.
func TestCancel(t *testing.T) {
	program, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := script(t, fmt.Sprintf("[ \"$1\" = env ] && exec %q \"$@\"\necho > %q\nexec sleep 60\n", program, started))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = os.ReadFile(started)
		cancel()
	}()
	if _, _, err := build(t, ctx, New(Options{Arch: "arm64", Go: slow})); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled build: %v", err)
	}
}
