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

// A Guest is a machine that a test runs, with its console at hand.
type Guest struct {
	*localvm.VM
	console string // file
}

// NoFirewall is a kernel parameter with which nf_tables does not start, so that no firewall can be
// loaded.
const NoFirewall = "initcall_blacklist=nf_tables_module_init"

// Boot starts an artifact on a state folder and waits until it is ready. The test's end ends the
// machine.
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

// PowerOn starts an artifact and does not wait.
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

// Log returns what the guest wrote to its console.
func (g *Guest) Log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(g.console)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Stop ends the machine in order.
func (g *Guest) Stop(t *testing.T) {
	t.Helper()
	if err := g.Shutdown(t.Context(), 5*time.Minute); err != nil {
		t.Fatalf("%v\nconsole:\n%s", err, g.Log(t))
	}
}

// CutPower ends the machine as pulling the plug would, and gives its data free.
func (g *Guest) CutPower(t *testing.T) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// Connect opens a session as the superuser, over the network.
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

// Ask returns the first column of all rows that the statements answer.
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

// One returns the one value that a statement answers.
func (g *Guest) One(t *testing.T, sql string) string {
	t.Helper()
	rows := g.Ask(t, sql)
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want one", sql, len(rows))
	}
	return rows[0]
}

// Shell runs a script in the guest, as root in a session, and returns its lines.
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

// Install compiles a Go package for the guest and puts the program there.
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

// Script runs a script at the other end of a session, and returns its output. A script that fails,
// fails the test.
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

// Fsck fails the test unless e2fsck finds a data disk sound. The journal of a disk that was cut off
// is replayed first, on a copy: that is the guest's to do.
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

// Replay has e2fsck replay the journal of a data disk and check it whole.
func Replay(t *testing.T, image string) {
	t.Helper()
	// Exit status 1: errors were corrected, which a replayed journal counts as (e2fsck(8)).
	var exit *exec.ExitError
	out, err := exec.Command("e2fsck", "-fp", image).CombinedOutput()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Errorf("e2fsck -fp: %v: %s", err, out)
	}
}

// Outside is how far a time is from those between two others.
func Outside(t, from, to time.Time) time.Duration {
	return max(from.Sub(t), t.Sub(to), 0)
}

// ClockLimit is how far the clocks of host and guest may be apart: on a busy computer an answer
// comes late, and what it says of the time is off by half of that.
const ClockLimit = 5 * time.Second
