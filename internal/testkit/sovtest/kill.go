package sovtest

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// KillBuilds kills builds with one cache at random moments. The next build must succeed, with the
// artifact of an undisturbed build and an intact cache.
func KillBuilds(t *testing.T, kills int) {
	t.Helper()
	kernel := ArmKernel(t, AllOptions())
	whole, broken := t.TempDir(), t.TempDir()
	start := time.Now()
	if result := SmallBuild(t, whole, nil, "--kernel", kernel); result.Status != 0 {
		t.Fatal(result)
	}
	length := time.Since(start)
	if err := os.WriteFile(filepath.Join(broken, "mine.yaml"), []byte(SmallRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	killed := 0
	for range kills {
		args := slices.Concat([]string{"build", "./mine.yaml", "--cache", "cache", "--no-cache", "--kernel", kernel}, FromMirror())
		command := exec.Command(Program, args...)
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
			length = min(length, time.Since(begun)) // the computer is less busy than before
		}
	}
	if killed < kills/2 {
		t.Errorf("only %d of %d builds were killed", killed, kills)
	}
	if result := SmallBuild(t, broken, nil, "--kernel", kernel); result.Status != 0 {
		t.Fatalf("after %d kills: %v", killed, result)
	}
	if result := Run(t, nil, "cache", "verify", "--cache", filepath.Join(broken, "cache")); result.Status != 0 {
		t.Errorf("the cache after %d kills: %v", killed, result)
	}
	if left, err := os.ReadDir(filepath.Join(broken, "cache", "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d leftovers in the cache, %v", len(left), err)
	}
	same := Run(t, nil, "diff", filepath.Join(whole, "out/small/arm64"), filepath.Join(broken, "out/small/arm64"))
	if same.Status != 0 {
		t.Errorf("the artifact after %d kills: %v", killed, same)
	}
}
