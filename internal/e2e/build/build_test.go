package build

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestOnlyWhatChangedRuns checks that a second build runs no stage, and that a changed setting of
// the database runs three.
func TestOnlyWhatChangedRuns(t *testing.T) {
	dir := t.TempDir()
	kernel := []string{"--json", "--kernel", sovtest.ArmKernel(t, sovtest.AllOptions())}
	report := func(change func(string) string) sovtest.BuildReport {
		t.Helper()
		result := sovtest.SmallBuild(t, dir, change, kernel...)
		if result.Status != 0 {
			t.Fatal(result)
		}
		var r sovtest.BuildReport
		if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil {
			t.Fatalf("%v: %v", err, result)
		}
		return r
	}
	if built := report(nil).Built(); len(built) < 6 {
		t.Errorf("the first build ran only %v", built)
	}
	second := report(nil)
	if built := second.Built(); len(built) > 0 {
		t.Errorf("the second build ran %v", built)
	}
	for _, f := range second.Files {
		if f.Changed {
			t.Errorf("the second build wrote %s", f.Name)
		}
	}
	changed := func(recipe string) string { return recipe + "  settings:\n    work_mem: 7MB\n" }
	if built, want := report(changed).Built(), []string{"bundle", "postgres", "rootfs"}; !slices.Equal(built, want) {
		t.Errorf("one changed setting ran %v, want %v", built, want)
	}
	explained := sovtest.SmallBuild(t, dir, nil, "--explain", "--kernel", sovtest.ArmKernel(t, sovtest.AllOptions()))
	if explained.Status != 0 || !strings.Contains(explained.Stdout, "work_mem") {
		t.Errorf("--explain does not name the setting that changed: %v", explained)
	}
}

func TestKilledBuilds(t *testing.T) { sovtest.KillBuilds(t, 6) }

// TestInterruptedBuild checks that a build shuts down cleanly on a signal and leaves no partial
// files.
func TestInterruptedBuild(t *testing.T) {
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	for range 10 {
		if interruptBuild(t, kernel) {
			return
		}
	}
	t.Fatal("ten builds were done before the signal came")
}

// interruptBuild interrupts a build while it runs a stage and checks what it leaves. It returns
// false if the build finished first.
func interruptBuild(t *testing.T, kernel string) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(sovtest.SmallRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	progress, err := os.Create(filepath.Join(dir, "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer progress.Close()
	args := slices.Concat([]string{"build", "./mine.yaml", "--cache", "cache", "--progress", "plain", "--kernel", kernel}, sovtest.FromMirror())
	command := exec.Command(sovtest.Program, args...)
	command.Dir = dir
	command.Stderr = progress
	if err := childtest.Start(command, nil); err != nil {
		t.Fatal(err)
	}
	sovtest.Await(t, sovtest.WaitLimit, "the packages stage to run", func() bool {
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
