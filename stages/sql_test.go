package stages_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// TestSQL builds the recipe sql from real programs, without Tailscale and with a minimal file as
// the kernel. Tests of other packages build both.
func TestSQL(t *testing.T) {
	peer := mirrortest.Start(t, tinybuild.Arch)
	r, text, err := stages.LoadRecipe("sql", recipe.Variant{})
	if err != nil {
		t.Fatal(err)
	}
	r.Tailscale.Enabled = false
	dir := t.TempDir()
	kernel := filepath.Join(dir, "Image")
	if err := os.WriteFile(kernel, tinybuild.FitKernel(t), 0o644); err != nil {
		t.Fatal(err)
	}
	o := stages.Options{
		Options: resolve.Options{Recipe: r, RecipeText: text, Arch: tinybuild.Arch, Kernel: kernel,
			Image: peer.Image(), Repositories: peer.Repositories(),
			LockPath: filepath.Join(dir, "sov.lock"), CacheDir: filepath.Join(dir, "cache")},
		Out:     filepath.Join(dir, "out"),
		Program: func(_ context.Context, name, _ string) ([]byte, error) { return []byte("#!" + name), nil },
	}
	result, err := stages.Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cold build: %s", result.Elapsed.Round(time.Millisecond))
	for _, s := range result.Stages {
		t.Logf("%s: %s %q", s.Name, s.Elapsed.Round(time.Millisecond), s.Warnings)
	}
	if problems, err := manifest.Verify(context.Background(), result.Dir); err != nil || len(problems) > 0 {
		t.Errorf("manifest: %v, %v", problems, err)
	}
	checkSQLImage(t, filepath.Join(result.Dir, "rootfs.img"))

	again, err := stages.Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(tinybuild.Ran(again)) > 0 {
		t.Errorf("the second build ran %q", tinybuild.Ran(again))
	}
	t.Logf("second build: %s", again.Elapsed.Round(time.Millisecond))

	r.Postgres.Settings = map[string]recipe.Setting{"work_mem": "8MB"}
	changed, err := stages.Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tinybuild.Ran(changed), " "); got != "postgres rootfs bundle" {
		t.Errorf("after a changed setting %q ran", got)
	}
	t.Logf("build after a changed setting: %s", changed.Elapsed.Round(time.Millisecond))
}

func checkSQLImage(t *testing.T, path string) {
	t.Helper()
	image, err := ext4.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if problems, err := image.Check(context.Background()); err != nil || len(problems) > 0 {
		t.Errorf("ext4: %v, %v", problems, err)
	}
	config, err := guestspec.Load(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Services {
		if _, err := fs.Stat(image, strings.TrimPrefix(s.Command[0], "/")); err != nil {
			t.Errorf("service %s: %v", s.Name, err)
		}
	}
	if tool, err := exec.LookPath("e2fsck"); err == nil {
		if out, err := exec.Command(tool, "-fn", path).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
	}
}
