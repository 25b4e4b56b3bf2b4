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

// simulator is the program that plays the phone's crosvm and su, where a copy of it has one of
// these names.
const simulator = "sov-simulator"

// Play makes the process crosvm or su if its program has that name, and does not return then. It is
// the first call of sov-simulator's main.
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

// programs are what the tests of a process need compiled, once: sov-simulator and sov-runner.
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

// RemovePrograms removes what was compiled for phones. A TestMain calls it after all tests.
func RemovePrograms() {
	if !compiled {
		return
	}
	if dir, _ := programs(); dir != "" {
		os.RemoveAll(dir)
	}
}

var compiled bool

// builtProgram is where this computer has a program that was compiled for its tests.
func builtProgram(t session.T, name string) string {
	t.Helper()
	built, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(built, name)
}

// Runner is where this computer has the sov-runner of phones that are simulated here.
func Runner(t session.T) string {
	t.Helper()
	return builtProgram(t, "sov-runner")
}
