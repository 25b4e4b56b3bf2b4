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

// The program under test and the sources that it builds from. Main sets them.
var (
	Program string
	Sources *mirror.Mirror
	Shared  string // folder of files that several tests use; removed at the end
)

// Main runs the tests of a package that needs sov: it compiles sov and starts the mirror that
// builds fetch from. Call it from TestMain; it does not return.
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
	// Keep tests away from the user's secrets and state.
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

// Root returns the module's folder, also in tests of a nested module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// An Outcome is the result of a command.
type Outcome struct {
	Status         int
	Stdout, Stderr string
}

func (o Outcome) String() string {
	return fmt.Sprintf("exit status %d\n--- stdout\n%s--- stderr\n%s---", o.Status, o.Stdout, o.Stderr)
}

// Run runs sov, in a new folder unless prepare sets the command's folder, and returns the outcome.
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

// Finish runs a command and returns the outcome. It returns an error if the command could not run.
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

// FromMirror returns the flags that make a build use the image and the packages of Sources.
func FromMirror() []string {
	flags := []string{"--image", Sources.Image()}
	for _, r := range Sources.Repositories() {
		flags = append(flags, "--repository", r)
	}
	return flags
}

// Await polls a condition, for at most bound, and then fails the test.
func Await(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	if !await.Until(bound, 5*time.Millisecond, condition) {
		t.Fatalf("waited %v for %s", bound, what)
	}
}

// WaitLimit limits waits for events that take seconds, on a busy computer.
const WaitLimit = 10 * time.Minute
