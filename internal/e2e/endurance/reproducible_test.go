package endurance

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestReproducible builds the sql recipe a second time from nothing: another folder, another home,
// an empty cache, an empty Go build cache, one job at a time, another time zone and language.
// Kernel and Tailscale are compiled again.
func TestReproducible(t *testing.T) {
	t.Parallel()
	first := sovtest.Artifact(t, "arm64")
	lock, err := os.ReadFile(sovtest.SharedLock("arm64"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a folder with another name")
	for _, sub := range []string{"home", "go"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sov.lock"), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	modules, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	result := sovtest.Run(t, func(c *exec.Cmd) {
		c.Dir = dir
		c.Env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"), "GOCACHE="+filepath.Join(dir, "go"),
			"GOMODCACHE="+strings.TrimSpace(string(modules)), "TZ=Pacific/Kiritimati", "LANG=de_DE.UTF-8", "LC_ALL=C.UTF-8")
	}, slices.Concat([]string{"build", "sql", "--arch", "arm64", "--cache", "cache", "--jobs", "1"}, sovtest.FromMirror())...)
	if result.Status != 0 {
		t.Fatal(result)
	}
	if same := sovtest.Run(t, nil, "diff", first, filepath.Join(dir, "out/sql/arm64")); same.Status != 0 {
		t.Errorf("two builds of one lock: %v", same)
	}
}
