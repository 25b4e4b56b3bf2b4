package sovtest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// releases maps the commit of each earlier version to a function that compiles it once.
var releases sync.Map

// Release returns the folder with the sources of an earlier version, and the path of its sov,
// compiled as `make build` does. It skips the test if the project's history lacks the commit.
func Release(t testing.TB, commit string) (sources, program string) {
	t.Helper()
	if out, err := exec.Command("git", "-C", Root(), "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("needs the project's history with %s (git fetch --unshallow): %s", commit, strings.TrimSpace(string(out)))
	}
	sources = filepath.Join(Shared, "release-"+commit)
	program = filepath.Join(sources, "bin", "sov")
	once, _ := releases.LoadOrStore(commit, sync.OnceValues(func() (string, error) {
		const script = `mkdir "$2"; git -C "$1" archive "$3" | tar -x -C "$2"; cd "$2"; go generate ./internal/embedded; go build -o bin/ ./cmd/sov`
		out, err := exec.Command("/bin/sh", "-euc", script, "sh", Root(), sources, commit).CombinedOutput()
		return string(out), err
	}))
	if out, err := once.(func() (string, error))(); err != nil {
		t.Fatalf("compile %s: %v: %s", commit, err, out)
	}
	return sources, program
}
