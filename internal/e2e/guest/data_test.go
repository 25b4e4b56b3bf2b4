package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestImageThatHasPostgreSQL builds a machine from an image that contains the server, without a
// package for it, and runs it.
func TestImageThatHasPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recipe := strings.Replace(sovtest.SmallRecipe, "install: [postgresql, e2fsprogs]", "install: [e2fsprogs]", 1)
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(sovtest.Artifact(t, "arm64"), "kernel")
	result := sovtest.Run(t, func(c *exec.Cmd) { c.Dir = dir },
		"build", "./mine.yaml", "--cache", "cache", "--kernel", kernel, "--image", sovtest.Sources.PostgresImage(), "--repository", sovtest.Sources.Repositories()[0])
	if result.Status != 0 {
		t.Fatal(result)
	}
	g := guesttest.Boot(t, localvm.Options{Artifact: filepath.Join(dir, "out/small/arm64"), State: t.TempDir()})
	if got := g.One(t, "show server_version"); !strings.HasPrefix(got, "15.") {
		t.Errorf("server version %s", got)
	}
}

// TestDataOutlivesTheImage changes the recipe, builds another root file system, and boots it with
// the data of the first.
func TestDataOutlivesTheImage(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), guesttest.Seeded(t, "arm64")
	kernel := filepath.Join(sovtest.Artifact(t, "arm64"), "kernel")
	out := filepath.Join(dir, "out/small/arm64")
	if result := sovtest.SmallBuild(t, dir, nil, "--kernel", kernel); result.Status != 0 {
		t.Fatal(result)
	}
	old := guesttest.Boot(t, localvm.Options{Artifact: out, State: state})
	old.Ask(t, "create table kept (n int); insert into kept values (7)")
	old.Shell(t, "head -c 100000000 /dev/urandom >/data/large; sync; rm /data/large")
	old.Stop(t)
	old.CutPower(t)
	full := allocated(t, filepath.Join(state, "data.img"))

	changed := func(recipe string) string { return recipe + "  settings:\n    work_mem: 7MB\n" }
	if result := sovtest.SmallBuild(t, dir, changed, "--kernel", kernel); result.Status != 0 {
		t.Fatal(result)
	}
	fresh := guesttest.Boot(t, localvm.Options{Artifact: out, State: state})
	if got := fresh.One(t, "show work_mem"); got != "7MB" {
		t.Errorf("work_mem is %s in the new image, want 7MB", got)
	}
	if got := fresh.One(t, "select n from kept"); got != "7" {
		t.Errorf("the row is %s under the new image, want 7", got)
	}
	awaitLine(t, fresh, "data disk trimmed") // this computer gets the space of deleted files back
	if now := allocated(t, filepath.Join(state, "data.img")); full-now < 90<<20 {
		t.Errorf("the disk's file takes %d MiB after 95 MiB were deleted, and took %d", now>>20, full>>20)
	}
}

// TestOtherMajorVersionUnchanged checks that a cluster of another major version is reported and not
// changed.
func TestOtherMajorVersionUnchanged(t *testing.T) {
	t.Parallel()
	state := guesttest.Seeded(t, "arm64")
	first := guesttest.Boot(t, localvm.Options{Artifact: sovtest.Artifact(t, "arm64"), State: state})
	first.Shell(t, "echo 14 > /data/postgres/PG_VERSION; md5sum /data/postgres/PG_VERSION")
	first.Stop(t)
	first.CutPower(t)

	g := guesttest.PowerOn(t, localvm.Options{Artifact: sovtest.Artifact(t, "arm64"), State: state})
	err := g.Ready(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "14") || !strings.Contains(err.Error(), "15") {
		t.Errorf("got %v, want an error that names both versions\n%s", err, g.Log(t))
	}
	g.Stop(t)
	g.CutPower(t)
	if out, err := exec.Command("debugfs", "-R", "cat /postgres/PG_VERSION", filepath.Join(state, "data.img")).Output(); err != nil || string(out) != "14\n" {
		t.Errorf("PG_VERSION is %q now, %v", out, err)
	}
}
