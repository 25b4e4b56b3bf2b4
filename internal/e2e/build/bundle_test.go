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

// TestBundleInAnEmptyNamespace builds a machine from a bundle with an empty cache, in a network
// namespace without an interface that is up. The result must equal the machine built with the
// network.
func TestBundleInAnEmptyNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	dir, there := t.TempDir(), t.TempDir()
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	if built := sovtest.SmallBuild(t, dir, nil, "--kernel", kernel); built.Status != 0 {
		t.Fatal(built)
	}
	at := func(dir string) func(*exec.Cmd) { return func(c *exec.Cmd) { c.Dir = dir } }
	args := append([]string{"bundle", "./mine.yaml", "-o", filepath.Join(there, "small.sovbundle"), "--cache", "cache", "--kernel", kernel, "--json"}, sovtest.FromMirror()...)
	written := sovtest.Run(t, at(dir), args...)
	var report struct{ Items map[string]int }
	if err := json.Unmarshal([]byte(written.Stdout), &report); err != nil || written.Status != 0 || report.Items["package"] < 5 || report.Items["layer"] == 0 {
		t.Fatalf("%v: %v", err, written)
	}

	build := []string{"--net", sovtest.Program, "build", "--bundle", "small.sovbundle", "--offline", "--cache", "empty", "--kernel", kernel}
	inside := exec.Command("unshare", build...)
	inside.Dir = there
	inside.Env = append(os.Environ(), "HOME="+there)
	if out, err := inside.CombinedOutput(); err != nil {
		t.Fatalf("unshare %s: %v\n%s", strings.Join(build, " "), err, out)
	}
	if same := sovtest.Run(t, nil, "diff", filepath.Join(dir, "out/small/arm64"), filepath.Join(there, "out/small/arm64")); same.Status != 0 {
		t.Error(same)
	}
	up, err := exec.Command("unshare", "--net", "ip", "-o", "link", "show", "up").Output()
	if err != nil || strings.TrimSpace(string(up)) != "" {
		t.Errorf("the namespace has interfaces that are up: %v %s", err, up)
	}
}
