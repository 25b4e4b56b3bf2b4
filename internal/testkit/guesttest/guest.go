package guesttest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A Guest is a machine that a test runs, with a log of its console.
type Guest struct {
	*localvm.VM
	console string // file
}

// NoFirewall is a kernel parameter that disables nf_tables, so that the guest cannot load a
// firewall.
const NoFirewall = "initcall_blacklist=nf_tables_module_init"

// Boot starts an artifact with a state folder and waits until it is ready. The machine ends with
// the test.
func Boot(t *testing.T, o localvm.Options) *Guest {
	t.Helper()
	g := PowerOn(t, o)
	start := time.Now()
	if err := g.Ready(t.Context(), nil); err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, g.Log(t))
	}
	t.Logf("ready %.1f s after power-on", time.Since(start).Seconds())
	return g
}

// PowerOn starts an artifact and does not wait until it is ready.
func PowerOn(t *testing.T, o localvm.Options) *Guest {
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
	return &Guest{vm, console.Name()}
}

// Log returns the output on the guest's console.
func (g *Guest) Log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(g.console)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Stop shuts the machine down cleanly.
func (g *Guest) Stop(t *testing.T) {
	t.Helper()
	if err := g.Shutdown(t.Context(), 5*time.Minute); err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, g.Log(t))
	}
}

// CutPower ends the machine like a power cut and releases its data.
func (g *Guest) CutPower(t *testing.T) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// Connect logs in as the superuser over the network.
func (g *Guest) Connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := pgconn.Connect(ctx, g.URL())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Ask returns the first column of all rows of the statements' results.
func (g *Guest) Ask(t *testing.T, sql string) []string {
	t.Helper()
	conn := g.Connect(t)
	defer conn.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
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

// One returns the only value of a statement's result.
func (g *Guest) One(t *testing.T, sql string) string {
	t.Helper()
	rows := g.Ask(t, sql)
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want one", sql, len(rows))
	}
	return rows[0]
}

// Shell runs a script in the guest, as root in a session, and returns the lines of its output.
func (g *Guest) Shell(t *testing.T, script string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := g.Client().Session(ctx)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	out := strings.TrimSuffix(Script(t, ctx, session.NewConn(conn, conn, conn.Close), script), "\n")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// Install compiles a Go package for the guest and writes the program to path there.
func (g *Guest) Install(t *testing.T, arch, pkg, path string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := g.Client().Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	start := session.Start{Command: []string{"/bin/sh", "-c", "cat >" + path + " && chmod 755 " + path}, Caller: "test"}
	exit, err := session.Run(ctx, session.NewConn(conn, conn, conn.Close), start, session.Streams{In: text, Out: &said, Errors: &said})
	if err != nil || exit.Status != 0 {
		t.Fatalf("install %s: status %d %s, %v: %s", path, exit.Status, exit.Fault, err, &said)
	}
}

// Script runs a script in a session and returns its output. It fails the test if the script fails.
func Script(t testing.TB, ctx context.Context, conn *session.Conn, script string) string {
	t.Helper()
	var out, errors strings.Builder
	start := session.Start{Command: []string{"/bin/sh", "-c", script}, Caller: "test"}
	exit, err := session.Run(ctx, conn, start, session.Streams{In: strings.NewReader(""), Out: &out, Errors: &errors})
	if err != nil || exit.Status != 0 {
		t.Fatalf("%s: status %d %s, %v\n%s", script, exit.Status, exit.Fault, err, errors.String())
	}
	return out.String()
}

// Fsck fails the test unless e2fsck finds a data disk sound. It replays the journal first, on a
// copy, because the guest must replay the original journal.
func Fsck(t *testing.T, image string) {
	t.Helper()
	work := filepath.Join(t.TempDir(), "copy.img")
	CopySparse(t, image, work)
	Replay(t, work)
	if out, err := exec.Command("e2fsck", "-fn", work).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn: %v: %s", err, out)
	}
	os.Remove(work)
}

// Replay makes e2fsck replay the journal of a data disk and check the disk.
func Replay(t *testing.T, image string) {
	t.Helper()
	// Exit status 1 means that errors were corrected, which includes a replayed journal
	// (e2fsck(8)).
	var exit *exec.ExitError
	out, err := exec.Command("e2fsck", "-fp", image).CombinedOutput()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Errorf("e2fsck -fp: %v: %s", err, out)
	}
}

// Outside returns how far t is outside of the interval between two times.
func Outside(t, from, to time.Time) time.Duration {
	return max(from.Sub(t), t.Sub(to), 0)
}

// ClockLimit is the maximum difference between the clocks of host and guest. On a busy computer a
// response is late, and its time is wrong by half of the delay.
const ClockLimit = 5 * time.Second
