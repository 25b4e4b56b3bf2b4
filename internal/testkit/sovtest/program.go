package sovtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/await"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/mirror"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
)

// The program under test and the sources it builds from; set by TestMain.
var (
	Program string
	Sources *mirror.Mirror
	Shared  string // a folder for what several tests use, removed at the end
)

// Main runs the tests of a package that needs the sov program: it compiles that and starts the
// sources that builds take from. Call it from TestMain; it does not return.
func Main(m *testing.M) {
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sovtest:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	Shared, err = os.MkdirTemp("", "sov-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(Shared)
	defer androidtest.RemovePrograms()
	// Tests do not use the secrets and the state of the user who runs them.
	for _, name := range []string{"SOV_CONFIG_DIR", "SOV_STATE_DIR"} {
		if err := os.Setenv(name, filepath.Join(Shared, strings.ToLower(name))); err != nil {
			return 1, err
		}
	}
	Program = filepath.Join(Shared, "sov")
	compile := exec.Command("go", "build", "-o", Program, "./cmd/sov")
	compile.Dir = Root()
	if out, err := compile.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("compile sov: %w: %s", err, out)
	}
	Sources, err = mirror.Start(context.Background(), mirror.Options{
		Fixtures: mirrortest.Fixtures(), Log: os.Stderr,
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, Sources.Close()) }()
	return m.Run(), nil
}

// Root is the folder of the module: a test of a nested module has another one around it.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// An Outcome is what a run of sov left.
type Outcome struct {
	Status         int
	Stdout, Stderr string
}

func (o Outcome) String() string {
	return fmt.Sprintf("exit status %d\n--- stdout\n%s--- stderr\n%s---", o.Status, o.Stdout, o.Stderr)
}

// Run runs the program in a folder of its own (or cmd's, when prepare sets one) and returns what
// came of it.
func Run(t testing.TB, prepare func(*exec.Cmd), args ...string) Outcome {
	t.Helper()
	command := exec.Command(Program, args...)
	command.Dir = t.TempDir()
	if prepare != nil {
		prepare(command)
	}
	result, err := Finish(command)
	if err != nil {
		t.Fatalf("run sov %s: %v", strings.Join(args, " "), err)
	}
	return result
}

// Finish runs a command and returns what came of it; the error is that of one that could not be
// run.
func Finish(command *exec.Cmd) (Outcome, error) {
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := childtest.Start(command, nil)
	if err == nil {
		err = command.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Outcome{}, err
	}
	return Outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}, nil
}

// FromMirror are the flags that make a build take image and packages from the test's own sources.
func FromMirror() []string {
	flags := []string{"--image", Sources.Image()}
	for _, r := range Sources.Repositories() {
		flags = append(flags, "--repository", r)
	}
	return flags
}

// Await polls a condition, for at most bound.
func Await(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	if !await.Until(bound, 5*time.Millisecond, condition) {
		t.Fatalf("waited %v for %s", bound, what)
	}
}

// WaitLimit bounds a wait for what takes seconds, on a computer that has a lot to do.
const WaitLimit = 10 * time.Minute
