package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLockInCI: a lock that has the newest passes the check; one that does not answer the recipe, or knows nothing of it,
// exits with 3. Adding a package to the recipe moves nothing else.
func TestLockInCI(t *testing.T) {
	dir := t.TempDir()
	kernel := armKernel(t, allOptions())
	lock := func(args ...string) outcome {
		return sov(t, func(c *exec.Cmd) { c.Dir = dir }, append(append([]string{"lock", "./mine.yaml", "--cache", "cache", "--kernel", kernel}, fromMirror()...), args...)...)
	}
	write := func(recipe string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(smallRecipe)
	if none := lock("--check"); none.status != 3 || !strings.Contains(none.stderr, "has no entry for it") {
		t.Errorf("no lock: %v", none)
	}
	if made := lock(); made.status != 0 || !strings.Contains(made.stdout, "wrote sov.lock") {
		t.Fatalf("the first lock: %v", made)
	}
	if fresh := lock("--check"); fresh.status != 0 || !strings.Contains(fresh.stdout, "nothing is newer") {
		t.Errorf("a fresh lock: %v", fresh)
	}
	write(strings.Replace(smallRecipe, "e2fsprogs]", "e2fsprogs, postgresql-contrib]", 1))
	stale := lock("--check", "--json")
	var report struct{ Stale string }
	if err := json.Unmarshal([]byte(stale.stdout), &report); err != nil || stale.status != 3 || !strings.Contains(report.Stale, "added postgresql-contrib") {
		t.Errorf("a recipe with another package: %v: %v", err, stale)
	}
	added := lock("--update", "postgresql-contrib")
	if added.status != 0 || !strings.Contains(added.stdout, "+ package postgresql15-contrib ") || strings.Contains(added.stdout, "~") {
		t.Errorf("taking that one: %v", added)
	}
	if why := lock("--why", "postgresql15-contrib"); why.status != 0 || !strings.Contains(why.stdout, "the recipe asks for postgresql-contrib") {
		t.Errorf("why: %v", why)
	}
	if checked := lock("--check"); checked.status != 0 {
		t.Errorf("afterwards: %v", checked)
	}
}
