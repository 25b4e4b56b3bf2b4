package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/localvm"
	"github.com/sovereign-sql/sov/internal/mirror"
)

// The program under test and the sources it builds from; set by TestMain.
var (
	sovProgram string
	sources    *mirror.Mirror
	shared     string // a folder for what several tests use, removed at the end
)

func TestMain(m *testing.M) {
	status, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

func setUp(m *testing.M) (status int, err error) {
	shared, err = os.MkdirTemp("", "sov-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(shared)
	defer androidtest.RemovePrograms()
	// The secrets of whoever runs the tests are not theirs.
	if err := os.Setenv("SOV_CONFIG_DIR", filepath.Join(shared, "config")); err != nil {
		return 1, err
	}
	sovProgram = filepath.Join(shared, "sov")
	compile := exec.Command("go", "build", "-o", sovProgram, "github.com/sovereign-sql/sov/cmd/sov")
	if out, err := compile.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("compile sov: %w: %s", err, out)
	}
	sources, err = mirror.Start(context.Background(), mirror.Options{
		Fixtures: mirror.FindFixtures(os.Getenv, "../../../shared/alpine"), Log: os.Stderr,
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, sources.Close()) }()
	return m.Run(), nil
}

// An outcome is what a run of sov left.
type outcome struct {
	status         int
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("exit status %d\n--- stdout\n%s--- stderr\n%s---", o.status, o.stdout, o.stderr)
}

// sov runs the program in a folder of its own (or cmd's, when prepare sets one) and returns what came of it.
func sov(t testing.TB, prepare func(*exec.Cmd), args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.Command(sovProgram, args...)
	command.Dir = t.TempDir()
	command.Stdout, command.Stderr = &stdout, &stderr
	if prepare != nil {
		prepare(command)
	}
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run sov %s: %v", strings.Join(args, " "), err)
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// fromMirror are the flags that make a build take image and packages from the test's own sources.
func fromMirror() []string {
	flags := []string{"--image", sources.Image()}
	for _, r := range sources.Repositories() {
		flags = append(flags, "--repository", r)
	}
	return flags
}

// builds makes each architecture's artifact once for all tests.
var builds = map[string]func() (string, outcome){
	"arm64": sync.OnceValues(func() (string, outcome) { return buildArtifact("arm64") }),
	"amd64": sync.OnceValues(func() (string, outcome) { return buildArtifact("amd64") }),
}

func buildArtifact(arch string) (string, outcome) {
	return build("sql", arch, filepath.Join(shared, "out"))
}

// build builds a recipe whose name is sql into a folder.
func build(recipe, arch, out string) (string, outcome) {
	var stdout, stderr bytes.Buffer
	command := exec.Command(sovProgram, append([]string{"build", recipe, "--arch", arch,
		"--lock", filepath.Join(shared, arch+".lock"), "-o", out}, fromMirror()...)...)
	command.Dir = shared
	command.Stdout, command.Stderr = &stdout, &stderr
	command.Run()
	return filepath.Join(out, "sql", arch), outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// artifact returns the out folder of the sql recipe for an architecture.
func artifact(t testing.TB, arch string) string {
	t.Helper()
	dir, result := builds[arch]()
	if result.status != 0 {
		t.Fatalf("build sql for %s: %v", arch, result)
	}
	return dir
}

// A guest is a machine that a test runs, with its console at hand.
type guest struct {
	*localvm.VM
	console string // file
}

// boot starts an artifact on a state folder and waits until it is ready. The test's end ends the machine.
func boot(t *testing.T, o localvm.Options) *guest {
	t.Helper()
	g := powerOn(t, o)
	start := time.Now()
	if err := g.Ready(t.Context(), nil); err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, g.log(t))
	}
	t.Logf("ready %.1f s after power-on", time.Since(start).Seconds())
	return g
}

// powerOn starts an artifact and does not wait.
func powerOn(t *testing.T, o localvm.Options) *guest {
	t.Helper()
	console, err := os.CreateTemp(t.TempDir(), "console-")
	if err != nil {
		t.Fatal(err)
	}
	o.Console = console
	if o.Now == nil {
		o.Now = time.Now
	}
	vm, err := localvm.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("close the machine: %v", err)
		}
		console.Close()
	})
	return &guest{vm, console.Name()}
}

// log returns what the guest wrote to its console.
func (g *guest) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(g.console)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shutDown ends the machine in order.
func (g *guest) shutDown(t *testing.T) {
	t.Helper()
	if err := g.Shutdown(t.Context(), 2*time.Minute); err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, g.log(t))
	}
}

// powerCut ends the machine as pulling the plug would, and gives its data free.
func (g *guest) powerCut(t *testing.T) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// connect opens a session as the superuser, over the network.
func (g *guest) connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	conn, err := pgconn.Connect(ctx, g.URL())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// ask returns the first column of all rows that the statements answer.
func (g *guest) ask(t *testing.T, sql string) []string {
	t.Helper()
	conn := g.connect(t)
	defer conn.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var column []string
	for _, result := range results {
		for _, row := range result.Rows {
			column = append(column, string(row[0]))
		}
	}
	return column
}

// one returns the one value that a statement answers.
func (g *guest) one(t *testing.T, sql string) string {
	t.Helper()
	rows := g.ask(t, sql)
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want one", sql, len(rows))
	}
	return rows[0]
}

// shell runs a command in the guest, as the database's user, and returns its lines.
func (g *guest) shell(t *testing.T, command string) []string {
	t.Helper()
	quoted := strings.ReplaceAll(command, "'", "''")
	return g.ask(t, "create temporary table shell (line text); "+
		"copy shell from program '"+quoted+"' with (format csv, delimiter E'\\x01', quote E'\\x02'); select line from shell")
}

// fsck fails the test unless e2fsck finds a data disk sound. The journal of a disk that was cut off is replayed first,
// on a copy: that is the guest's to do.
func fsck(t *testing.T, image string) {
	t.Helper()
	work := filepath.Join(t.TempDir(), "copy.img")
	if out, err := exec.Command("cp", "--sparse=always", image, work).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	// Exit status 1: errors were corrected, which a replayed journal counts as (e2fsck(8)).
	var exit *exec.ExitError
	out, err := exec.Command("e2fsck", "-fp", work).CombinedOutput()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Errorf("e2fsck -fp: %v: %s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-fn", work).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn: %v: %s", err, out)
	}
	os.Remove(work)
}
