package e2e

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/localvm"
)

// A buildReport is what the tests read of `sov build --json`.
type buildReport struct {
	Stages []struct {
		Name   string
		Status string
	}
	Files []struct {
		Name    string
		Changed bool
	}
}

func (r buildReport) built() []string {
	var names []string
	for _, s := range r.Stages {
		if s.Status != "cached" {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// smallBuild builds smallRecipe, changed by change, in dir with a cache there.
func smallBuild(t *testing.T, dir string, change func(string) string, args ...string) outcome {
	t.Helper()
	recipe := smallRecipe
	if change != nil {
		recipe = change(recipe)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := slices.Concat([]string{"build", "./mine.yaml", "--progress", "plain", "--cache", "cache"}, fromMirror(), args)
	return sov(t, func(c *exec.Cmd) { c.Dir = dir }, flags...)
}

// TestOnlyWhatChangedRuns: a second build does nothing, and one changed setting of the database runs three stages.
func TestOnlyWhatChangedRuns(t *testing.T) {
	dir := t.TempDir()
	kernel := []string{"--json", "--kernel", armKernel(t, allOptions())}
	report := func(change func(string) string) buildReport {
		t.Helper()
		result := smallBuild(t, dir, change, kernel...)
		if result.status != 0 {
			t.Fatal(result)
		}
		var r buildReport
		if err := json.Unmarshal([]byte(result.stdout), &r); err != nil {
			t.Fatalf("%v: %v", err, result)
		}
		return r
	}
	if built := report(nil).built(); len(built) < 6 {
		t.Errorf("the first build ran only %v", built)
	}
	second := report(nil)
	if built := second.built(); len(built) > 0 {
		t.Errorf("the second build ran %v", built)
	}
	for _, f := range second.Files {
		if f.Changed {
			t.Errorf("the second build wrote %s", f.Name)
		}
	}
	changed := func(recipe string) string { return recipe + "  settings:\n    work_mem: 7MB\n" }
	if built, want := report(changed).built(), []string{"bundle", "postgres", "rootfs"}; !slices.Equal(built, want) {
		t.Errorf("one changed setting ran %v, want %v", built, want)
	}
	explained := smallBuild(t, dir, nil, "--explain", "--kernel", armKernel(t, allOptions()))
	if explained.status != 0 || !strings.Contains(explained.stdout, "work_mem") {
		t.Errorf("--explain does not name the setting that changed: %v", explained)
	}
}

// TestKilledBuilds kills builds on one cache at random moments, and looks whether the next ones go on as if nothing
// had happened.
func TestKilledBuilds(t *testing.T) {
	const kills = 50
	kernel := armKernel(t, allOptions())
	whole, broken := t.TempDir(), t.TempDir()
	start := time.Now()
	if result := smallBuild(t, whole, nil, "--kernel", kernel); result.status != 0 {
		t.Fatal(result)
	}
	length := time.Since(start)
	if err := os.WriteFile(filepath.Join(broken, "mine.yaml"), []byte(smallRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	killed := 0
	for range kills {
		args := slices.Concat([]string{"build", "./mine.yaml", "--cache", "cache", "--no-cache", "--kernel", kernel}, fromMirror())
		command := exec.Command(sovProgram, args...)
		command.Dir = broken
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		kill := time.AfterFunc(time.Duration(random.Int64N(int64(length))), func() { command.Process.Kill() })
		err := command.Wait()
		kill.Stop()
		if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			killed++
		} else if err != nil {
			t.Fatalf("a build that was not killed failed: %v", err)
		} else {
			length = min(length, time.Since(begun)) // the computer has less to do than it had
		}
	}
	if killed < kills/2 {
		t.Errorf("only %d of %d builds were killed", killed, kills)
	}
	if result := smallBuild(t, broken, nil, "--kernel", kernel); result.status != 0 {
		t.Fatalf("after %d kills: %v", killed, result)
	}
	if result := sov(t, nil, "cache", "verify", "--cache", filepath.Join(broken, "cache")); result.status != 0 {
		t.Errorf("the cache after %d kills: %v", killed, result)
	}
	if left, err := os.ReadDir(filepath.Join(broken, "cache", "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d leftovers in the cache, %v", len(left), err)
	}
	same := sov(t, nil, "diff", filepath.Join(whole, "out/small/arm64"), filepath.Join(broken, "out/small/arm64"))
	if same.status != 0 {
		t.Errorf("the artifact after %d kills: %v", killed, same)
	}
}

// TestInterruptedBuild: a signal ends a build in order, and nothing half-made stays.
func TestInterruptedBuild(t *testing.T) {
	kernel := armKernel(t, allOptions())
	for range 10 {
		if interruptBuild(t, kernel) {
			return
		}
	}
	t.Fatal("ten builds were done before the signal came")
}

// interruptBuild interrupts a build once it is at work, and checks what is left; false: it was done before.
func interruptBuild(t *testing.T, kernel string) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(smallRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	progress, err := os.Create(filepath.Join(dir, "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer progress.Close()
	args := slices.Concat([]string{"build", "./mine.yaml", "--cache", "cache", "--progress", "plain", "--kernel", kernel}, fromMirror())
	command := exec.Command(sovProgram, args...)
	command.Dir = dir
	command.Stderr = progress
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, waitLimit, "the packages stage to run", func() bool {
		text, err := os.ReadFile(progress.Name())
		return err == nil && strings.Contains(string(text), "\npackages: start")
	})
	if err := command.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	if err := command.Wait(); err == nil {
		return false
	}
	if status := command.ProcessState.ExitCode(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	text, err := os.ReadFile(progress.Name())
	if err != nil || !strings.Contains(string(text), "sov: interrupted") {
		t.Errorf("%v: it says\n%s", err, text)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "cache", "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d leftovers in the cache, %v", len(left), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("an interrupted build left an out folder")
	}
	return true
}

// await polls a condition, for at most bound.
func await(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for %s", bound, what)
		}
	}
}

// TestReproducible builds the sql recipe a second time from nothing: another folder, another home, an empty cache, an
// empty Go build cache, one job at a time, another time zone and language. Kernel and Tailscale are compiled again.
func TestReproducible(t *testing.T) {
	t.Parallel()
	first := artifact(t, "arm64")
	lock, err := os.ReadFile(filepath.Join(shared, "arm64.lock"))
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
	result := sov(t, func(c *exec.Cmd) {
		c.Dir = dir
		c.Env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"), "GOCACHE="+filepath.Join(dir, "go"),
			"GOMODCACHE="+strings.TrimSpace(string(modules)), "TZ=Pacific/Kiritimati", "LANG=de_DE.UTF-8", "LC_ALL=C.UTF-8")
	}, slices.Concat([]string{"build", "sql", "--arch", "arm64", "--cache", "cache", "--jobs", "1"}, fromMirror())...)
	if result.status != 0 {
		t.Fatal(result)
	}
	if same := sov(t, nil, "diff", first, filepath.Join(dir, "out/sql/arm64")); same.status != 0 {
		t.Errorf("two builds of one lock: %v", same)
	}
}

// TestImageThatHasPostgreSQL builds from an image with the server in it, without a package of its own, and runs it.
func TestImageThatHasPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recipe := strings.Replace(smallRecipe, "install: [postgresql, e2fsprogs]", "install: []", 1)
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(artifact(t, "arm64"), "kernel")
	result := sov(t, func(c *exec.Cmd) { c.Dir = dir },
		"build", "./mine.yaml", "--cache", "cache", "--kernel", kernel, "--image", sources.PostgresImage())
	if result.status != 0 {
		t.Fatal(result)
	}
	g := boot(t, localvm.Options{Artifact: filepath.Join(dir, "out/small/arm64"), State: t.TempDir()})
	if got := g.one(t, "show server_version"); !strings.HasPrefix(got, "15.") {
		t.Errorf("server version %s", got)
	}
}

// TestDataOutlivesTheImage changes the recipe, builds another root filesystem, and boots it on the data of the first.
func TestDataOutlivesTheImage(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	kernel := filepath.Join(artifact(t, "arm64"), "kernel")
	out := filepath.Join(dir, "out/small/arm64")
	if result := smallBuild(t, dir, nil, "--kernel", kernel); result.status != 0 {
		t.Fatal(result)
	}
	old := boot(t, localvm.Options{Artifact: out, State: state})
	old.ask(t, "create table kept (n int); insert into kept values (7)")
	old.shutDown(t)
	old.powerCut(t)

	changed := func(recipe string) string { return recipe + "  settings:\n    work_mem: 7MB\n" }
	if result := smallBuild(t, dir, changed, "--kernel", kernel); result.status != 0 {
		t.Fatal(result)
	}
	fresh := boot(t, localvm.Options{Artifact: out, State: state})
	if got := fresh.one(t, "show work_mem"); got != "7MB" {
		t.Errorf("work_mem is %s in the new image, want 7MB", got)
	}
	if got := fresh.one(t, "select n from kept"); got != "7" {
		t.Errorf("the row is %s under the new image, want 7", got)
	}
}

// TestOtherMajorVersionIsLeftAlone: a cluster that another major version made is reported, and not touched.
func TestOtherMajorVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	first := boot(t, localvm.Options{Artifact: artifact(t, "arm64"), State: state})
	first.shell(t, "echo 14 > /data/postgres/PG_VERSION; md5sum /data/postgres/PG_VERSION")
	first.shutDown(t)
	first.powerCut(t)

	g := powerOn(t, localvm.Options{Artifact: artifact(t, "arm64"), State: state})
	err := g.Ready(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "14") || !strings.Contains(err.Error(), "15") {
		t.Errorf("got %v, want an error that names both versions\n%s", err, g.log(t))
	}
	g.shutDown(t)
	g.powerCut(t)
	if out, err := exec.Command("debugfs", "-R", "cat /postgres/PG_VERSION", filepath.Join(state, "data.img")).Output(); err != nil || string(out) != "14\n" {
		t.Errorf("PG_VERSION is %q now, %v", out, err)
	}
}
