package build

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestLockInCI checks that a current lock passes --check, and that a stale lock or one without an
// entry for the recipe exits with 3. Adding a package to the recipe changes no other package.
func TestLockInCI(t *testing.T) {
	dir := t.TempDir()
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	lock := func(args ...string) sovtest.Outcome {
		return sovtest.Run(t, func(c *exec.Cmd) { c.Dir = dir }, append(append([]string{"lock", "./mine.yaml", "--cache", "cache", "--kernel", kernel}, sovtest.FromMirror()...), args...)...)
	}
	write := func(recipe string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(sovtest.SmallRecipe)
	if none := lock("--check"); none.Status != 3 || !strings.Contains(none.Stderr, "has no entry for it") {
		t.Errorf("no lock: %v", none)
	}
	if made := lock(); made.Status != 0 || !strings.Contains(made.Stdout, "wrote sov.lock") {
		t.Fatalf("the first lock: %v", made)
	}
	if fresh := lock("--check"); fresh.Status != 0 || !strings.Contains(fresh.Stdout, "nothing is newer") {
		t.Errorf("a fresh lock: %v", fresh)
	}
	write(strings.Replace(sovtest.SmallRecipe, "e2fsprogs]", "e2fsprogs, postgresql-contrib]", 1))
	stale := lock("--check", "--json")
	var report struct{ Stale string }
	if err := json.Unmarshal([]byte(stale.Stdout), &report); err != nil || stale.Status != 3 || !strings.Contains(report.Stale, "added postgresql-contrib") {
		t.Errorf("a recipe with another package: %v: %v", err, stale)
	}
	added := lock("--update", "postgresql-contrib")
	if added.Status != 0 || !strings.Contains(added.Stdout, "+ package postgresql15-contrib ") || strings.Contains(added.Stdout, "~") {
		t.Errorf("taking that one: %v", added)
	}
	if why := lock("--why", "postgresql15-contrib"); why.Status != 0 || !strings.Contains(why.Stdout, "the recipe asks for postgresql-contrib") {
		t.Errorf("why: %v", why)
	}
	if checked := lock("--check"); checked.Status != 0 {
		t.Errorf("afterwards: %v", checked)
	}
}
