package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBundleInAnEmptyNamespace builds a machine of a bundle in a network namespace without any interface that is up, with
// an empty cache, and compares it with the one that was built with the network.
func TestBundleInAnEmptyNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	dir, there := t.TempDir(), t.TempDir()
	kernel := armKernel(t, allOptions())
	if built := smallBuild(t, dir, nil, "--kernel", kernel); built.status != 0 {
		t.Fatal(built)
	}
	at := func(dir string) func(*exec.Cmd) { return func(c *exec.Cmd) { c.Dir = dir } }
	args := append([]string{"bundle", "./mine.yaml", "-o", filepath.Join(there, "small.sovbundle"), "--cache", "cache", "--kernel", kernel, "--json"}, fromMirror()...)
	written := sov(t, at(dir), args...)
	var report struct{ Items map[string]int }
	if err := json.Unmarshal([]byte(written.stdout), &report); err != nil || written.status != 0 || report.Items["package"] < 5 || report.Items["layer"] == 0 {
		t.Fatalf("%v: %v", err, written)
	}

	build := []string{"--net", sovProgram, "build", "--bundle", "small.sovbundle", "--offline", "--cache", "empty", "--kernel", kernel}
	inside := exec.Command("unshare", build...)
	inside.Dir = there
	inside.Env = append(os.Environ(), "HOME="+there)
	if out, err := inside.CombinedOutput(); err != nil {
		t.Fatalf("unshare %s: %v\n%s", strings.Join(build, " "), err, out)
	}
	if same := sov(t, nil, "diff", filepath.Join(dir, "out/small/arm64"), filepath.Join(there, "out/small/arm64")); same.status != 0 {
		t.Error(same)
	}
	up, err := exec.Command("unshare", "--net", "ip", "-o", "link", "show", "up").Output()
	if err != nil || strings.TrimSpace(string(up)) != "" {
		t.Errorf("the namespace has interfaces that are up: %v %s", err, up)
	}
}
