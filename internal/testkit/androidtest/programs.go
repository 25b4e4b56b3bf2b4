package androidtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvm"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/su"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

// simulator is the name of the program that plays the phone's crosvm and su. Copies of it with one
// of these names play that program.
const simulator = "sov-simulator"

// Play runs crosvm or su, and does not return, if the program's file has that name. It is the first
// call of sov-simulator's main.
func Play() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	switch filepath.Base(program) {
	case "crosvm":
		os.Exit(crosvm.Main(os.Args[1:]))
	case "su":
		su.Main(os.Args[1:])
	}
}

// programs compiles sov-simulator and sov-runner, once for each process, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	compiled = true
	dir, err := os.MkdirTemp("", "androidtest-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{simulator, "sov-runner"} {
		build := exec.Command("go", "build", "-tags=nethttpomithttp2", "-ldflags=-s -w", "-o", filepath.Join(dir, name), "github.com/sovereign-sql/sov/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("compile %s: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

// RemovePrograms removes the programs that were compiled for phones. A TestMain calls it after all
// tests.
func RemovePrograms() {
	if !compiled {
		return
	}
	if dir, _ := programs(); dir != "" {
		os.RemoveAll(dir)
	}
}

var compiled bool

// builtProgram returns the path of a program that was compiled for tests.
func builtProgram(t session.T, name string) string {
	t.Helper()
	built, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(built, name)
}

// Runner returns the path of the sov-runner for simulated phones. It compiles sov-runner if
// necessary.
func Runner(t session.T) string {
	t.Helper()
	return builtProgram(t, "sov-runner")
}
