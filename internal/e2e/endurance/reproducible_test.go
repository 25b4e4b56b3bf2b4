package endurance

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestReproducible builds the sql recipe again with another folder, another home, an empty cache,
// an empty Go build cache, one job at a time, another time zone and another language. The kernel
// and Tailscale are compiled again.
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

// TestADayLater builds a disk image twice with one lock and empty caches. The second sov has a
// clock that is a day ahead.
func TestADayLater(t *testing.T) {
	t.Parallel()
	kernel := filepath.Join(sovtest.Artifact(t, "arm64"), artifact.KernelFile)
	tomorrow := dayAhead(t)
	build := func(program string, lock []byte) (dir string) {
		t.Helper()
		dir = t.TempDir()
		for name, text := range map[string][]byte{"mine.yaml": []byte(sovtest.SmallRecipe + "vm: {data: 256MiB}\n"), "sov.lock": lock} {
			if len(text) == 0 {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"build", "./mine.yaml", "--format", "disk", "--cache", "cache", "--kernel", kernel}
		o := sovtest.Run(t, func(c *exec.Cmd) { c.Path, c.Dir = program, dir }, append(args, sovtest.FromMirror()...)...)
		if o.Status != 0 {
			t.Fatal(o)
		}
		return dir
	}
	one := build(sovtest.Program, nil)
	lock, err := os.ReadFile(filepath.Join(one, "sov.lock"))
	if err != nil {
		t.Fatal(err)
	}
	other := build(tomorrow, lock)
	if ahead := made(t, other).Sub(made(t, one)); ahead < 23*time.Hour || ahead > 25*time.Hour {
		t.Fatalf("the second build is %v later", ahead)
	}
	const out = "out/small/arm64"
	files, err := os.ReadDir(filepath.Join(one, out))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		a, err := os.ReadFile(filepath.Join(one, out, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(other, out, f.Name())); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is another a day later, %v", f.Name(), err)
		}
	}
	if !slices.ContainsFunc(files, func(f os.DirEntry) bool { return f.Name() == artifact.DiskFile }) {
		t.Errorf("there is no disk image among %v", files)
	}
}

// dayAhead compiles sov with a clock that is a day ahead and returns its path: an overlay replaces
// the standard library's time.Now. Tools that change the clock of a process replace functions of
// libc, which sov does not call.
func dayAhead(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	source, dir := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go"), t.TempDir()
	text, err := os.ReadFile(source)
	if err != nil || !strings.Contains(string(text), now) {
		t.Fatalf("%s does not say %q: %v", source, now, err)
	}
	changed, overlay, program := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sov")
	if err := os.WriteFile(changed, []byte(strings.ReplaceAll(string(text), now, now+"sec += 24 * 60 * 60\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		t.Fatal(err)
	}
	compile := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/sov")
	compile.Dir = sovtest.Root()
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile sov: %v\n%s", err, out)
	}
	return program
}

// made returns when the last stage of a build finished, from the records in its cache.
func made(t *testing.T, dir string) (last time.Time) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(dir, "cache/actions/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		b, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		var action struct{ Content struct{ Created time.Time } }
		if err := json.Unmarshal(b, &action); err != nil {
			t.Fatalf("%s: %v", record, err)
		}
		if action.Content.Created.After(last) {
			last = action.Content.Created
		}
	}
	return last
}
