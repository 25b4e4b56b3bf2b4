package build

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestCheckReproducible checks that two builds with empty caches are identical. Then it replaces
// the record of a stage in the cache by the record of a build with another setting, which
// --check-reproducible must detect.
func TestCheckReproducible(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	check := func() sovtest.Outcome {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(sovtest.SmallRecipe), 0o644); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"build", "./mine.yaml", "--progress", "plain", "--cache", "cache", "--kernel", kernel, "--check-reproducible", "--json"}, sovtest.FromMirror()...)
		return sovtest.Run(t, func(c *exec.Cmd) { c.Dir, c.Env = dir, append(os.Environ(), "TMPDIR="+temp) }, args...)
	}
	var report struct {
		Reproducible struct {
			Identical bool
			Between   string
			Kept      string
			Diff      struct {
				Files []struct {
					Name string
					At   *int64
				}
				Changes []struct {
					Path string
					At   *int64
				}
			}
		}
	}
	good := check()
	if err := json.Unmarshal([]byte(good.Stdout), &report); err != nil || good.Status != 0 || !report.Reproducible.Identical {
		t.Fatalf("%v: %v", err, good)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}

	other := sovtest.SmallBuild(t, dir, func(recipe string) string { return recipe + "  settings: {work_mem: 8MB}\n" }, "--kernel", kernel, "--json")
	swapOutputs(t, filepath.Join(dir, "cache", "actions"), keyOf(t, good, "postgres"), keyOf(t, other, "postgres"))
	bad := check()
	if err := json.Unmarshal([]byte(bad.Stdout), &report); err != nil || bad.Status != 3 {
		t.Fatalf("%v: %v", err, bad)
	}
	r := report.Reproducible
	if r.Identical || !strings.Contains(r.Between, "partly from the cache") || len(r.Diff.Changes) == 0 {
		t.Fatalf("%+v", r)
	}
	for _, c := range r.Diff.Changes {
		if c.Path == "etc/sov/postgres/postgresql.conf" && c.At == nil {
			t.Errorf("no offset for %s", c.Path)
		}
	}
	if _, err := os.Stat(filepath.Join(r.Kept, "one", "out", "small", "arm64", "rootfs.img")); err != nil {
		t.Errorf("what differs was not kept: %v", err)
	}
}

// keyOf returns the key of a stage from the output of a build with --json.
func keyOf(t *testing.T, build sovtest.Outcome, stage string) string {
	t.Helper()
	var report struct{ Stages []struct{ Name, Key string } }
	if err := json.Unmarshal([]byte(build.Stdout), &report); err != nil || build.Status != 0 {
		t.Fatalf("%v: %v", err, build)
	}
	for _, s := range report.Stages {
		if s.Name == stage {
			return s.Key
		}
	}
	t.Fatalf("no stage %s: %v", stage, build)
	return ""
}

// swapOutputs replaces the outputs in the action record of key by the outputs in the record of
// from, and updates the digest of its content.
func swapOutputs(t *testing.T, actions, key, from string) {
	t.Helper()
	read := func(key string) map[string]json.RawMessage {
		b, err := os.ReadFile(filepath.Join(actions, key+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var sealed struct{ Content map[string]json.RawMessage }
		if err := json.Unmarshal(b, &sealed); err != nil {
			t.Fatal(err)
		}
		return sealed.Content
	}
	record := read(key)
	record["outputs"] = read(from)["outputs"]
	content, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := json.Marshal(map[string]any{"digest": fmt.Sprintf("sha256:%x", sha256.Sum256(content)), "content": json.RawMessage(content)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(actions, key+".json"), append(sealed, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
