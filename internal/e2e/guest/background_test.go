package guest

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A desk is a computer on which a person uses sov: with a state folder and secrets of its own.
type desk struct {
	t   *testing.T
	dir string
}

// sov runs a command, and wants its exit status.
func (d *desk) sov(want int, input string, args ...string) sovtest.Outcome {
	d.t.Helper()
	o := sovtest.Run(d.t, func(c *exec.Cmd) { d.prepare(c, input) }, args...)
	if o.Status != want {
		d.t.Fatalf("sov %s: want status %d: %v", strings.Join(args, " "), want, o)
	}
	return o
}

func (d *desk) prepare(c *exec.Cmd, input string) {
	c.Dir = d.dir
	c.Env = append(os.Environ(), "SOV_STATE_DIR="+d.dir+"/state", "SOV_CONFIG_DIR="+d.dir+"/config", "XDG_RUNTIME_DIR=", "TERM=dumb")
	c.Stdin = strings.NewReader(input)
}

func (d *desk) running() *localvm.Running {
	d.t.Helper()
	r, err := localvm.Find(d.dir+"/state", "sql")
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestBackground is the life of a machine in background: it is started, started again, used by shell, exec and psql, killed,
// started and stopped.
func TestBackground(t *testing.T) {
	t.Parallel()
	d := &desk{t, t.TempDir()}
	artifact := sovtest.Artifact(t, "amd64")
	t.Cleanup(func() {
		if r := d.running(); r != nil {
			syscall.Kill(r.PID, syscall.SIGKILL)
		}
	})
	if o := d.sov(1, "", "exec", "sql", "--local", "--", "true"); !strings.Contains(o.Stderr, "sql does not run on this computer: sov run sql") {
		t.Errorf("before the start: %v", o)
	}
	first := d.sov(0, "", "run", artifact, "--detach")
	r := d.running()
	if r == nil || strings.TrimSpace(first.Stdout) != r.URL || !strings.Contains(first.Stderr, "run: ready in ") || !strings.Contains(first.Stderr, "sov stop sql --local shuts it down") {
		t.Fatalf("%+v: %v", r, first)
	}
	again := d.sov(0, "", "run", artifact, "--detach")
	if again.Stdout != first.Stdout || !strings.Contains(again.Stderr, "sql runs already") || d.running().PID != r.PID {
		t.Errorf("started again: %v", again)
	}
	ask(t, r.URL, "create table kept as select 42 as n")
	if list := d.sov(0, "", "list"); !strings.Contains(list.Stdout, "this computer") || strings.Contains(list.Stdout, r.Token) {
		t.Errorf("list: %v", list)
	}

	d.usesGuest(r)

	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sovtest.Await(t, sovtest.WaitLimit, "QEMU's end after its parent's", func() bool { return errors.Is(syscall.Kill(r.QEMU, 0), syscall.ESRCH) })
	if left := d.running(); left != nil {
		t.Errorf("after a kill: %+v", left)
	}
	d.sov(0, "", "run", artifact, "--detach")
	r = d.running()
	if got := ask(t, r.URL, "select n from kept"); got != "42" {
		t.Errorf("after a kill: %s", got)
	}
	d.sov(0, "", "stop", "sql", "--local")
	if o := d.sov(1, "", "stop", "sql", "--local"); !strings.Contains(o.Stderr, "sql does not run on this computer") {
		t.Errorf("stopped twice: %v", o)
	}
	if log, err := os.ReadFile(r.Console()); err != nil || !strings.Contains(string(log), "database system is shut down") {
		t.Errorf("it was not shut down in order: %v", err)
	}
}

// usesGuest runs commands and a shell in the guest.
func (d *desk) usesGuest(r *localvm.Running) {
	t := d.t
	t.Helper()
	if o := d.sov(3, "some input", "exec", "sql", "--", "sh", "-c", "cat; echo; id -un; echo oops >&2; exit 3"); o.Stdout != "some input\nroot\n" || o.Stderr != "oops\n" {
		t.Errorf("exec: %v", o)
	}
	if o := d.sov(127, "", "exec", "sql", "--local", "--", "frobnicate"); !strings.Contains(o.Stderr, "sov: exec: frobnicate: file does not exist") {
		t.Errorf("an unknown command: %v", o)
	}
	if o := d.sov(0, "", "psql", "sql", "--local", "--", "-Atc", "select n from kept"); o.Stdout != "42\n" {
		t.Errorf("psql: %v", o)
	}
	// script(1) gives the shell a terminal, and passes its exit status on.
	shell := exec.Command("script", "-qec", sovtest.Program+" shell sql", "/dev/null")
	d.prepare(shell, "tty; echo I am $(id -un)\nexit 5\n")
	o, err := sovtest.Finish(shell)
	if err != nil || o.Status != 5 || !strings.Contains(o.Stdout, "/dev/pts/") || !strings.Contains(o.Stdout, "I am root") {
		t.Errorf("shell: %v, %v", err, o)
	}
	log := d.sov(0, "", "exec", "sql", "--", "cat", "/data/log/init").Stdout
	for _, want := range []string{"session begins", "caller=", `command="sh -c cat; echo; id -un`, `how="exit status 3"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the journal lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "some input") || strings.Contains(log, "I am") {
		t.Errorf("the journal tells what was typed:\n%s", log)
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+r.Endpoint.String()+guestapi.PathSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", session.Protocol)
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, %v", response, err)
	}
}

// ask returns the first value that a statement answers.
func ask(t *testing.T, url, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results[0].Rows) == 0 {
		return ""
	}
	return string(results[0].Rows[0][0])
}

// TestUnit: the unit that is printed names absolute paths, and is one to systemd.
func TestUnit(t *testing.T) {
	t.Parallel()
	d := &desk{t, t.TempDir()}
	artifact := sovtest.Artifact(t, "amd64")
	unit := d.sov(0, "", "run", artifact, "--systemd", "--port", "5432", "--state", "my state").Stdout
	want := `ExecStart=` + sovtest.Program + ` run --port=5432 "--state=` + d.dir + `/my state" ` + artifact + "\n"
	if !strings.Contains(unit, want) || !strings.Contains(unit, "Type=notify\n") {
		t.Errorf("the unit lacks %q:\n%s", want, unit)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	path := filepath.Join(d.dir, "sov-sql.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", "--user", path)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+d.dir)
	if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), "sov-sql.service") {
		t.Errorf("%v: %s\n%s", err, out, unit)
	}
}
