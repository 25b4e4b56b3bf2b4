package guest

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A desk is a computer with its state folder and secrets, on which a user runs sov.
type desk struct {
	t   *testing.T
	dir string
	env []string
}

// sov runs a command with input, and requires the exit status want.
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
	c.Env = slices.Concat(os.Environ(), []string{"SOV_STATE_DIR=" + d.dir + "/state", "SOV_CONFIG_DIR=" + d.dir + "/config", "XDG_RUNTIME_DIR=", "TERM=dumb"}, d.env)
	c.Stdin = strings.NewReader(input)
}

func (d *desk) running() *localvm.Running {
	d.t.Helper()
	r, err := localvm.Find(d.dir+"/state", "small")
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestBackground runs a machine in the background from a disk image. The machine is started,
// started again, used by shell and exec, killed, started and stopped.
func TestBackground(t *testing.T) {
	t.Parallel()
	adb := androidtest.NewADBServer(t) // of the phones that list shows
	d := &desk{t, t.TempDir(), []string{"PATH=" + filepath.Dir(adb.Program()) + ":" + os.Getenv("PATH")}}
	artifact := guesttest.BuildWriterOn(t, []string{"--format", "disk"})
	t.Cleanup(func() {
		if r := d.running(); r != nil {
			syscall.Kill(r.PID, syscall.SIGKILL)
		}
	})
	if o := d.sov(1, "", "exec", "small", "--local", "--", "true"); !strings.Contains(o.Stderr, "small does not run on this computer: `sov run small`") {
		t.Errorf("before the start: %v", o)
	}
	first := d.sov(0, "", "run", artifact, "--format", "disk", "--detach")
	r := d.running()
	if r == nil || !strings.Contains(first.Stderr, "run: ready in ") || !strings.Contains(first.Stderr, "sov stop small --local shuts it down") {
		t.Fatalf("%+v: %v", r, first)
	}
	if again := d.sov(0, "", "run", artifact, "--format", "disk", "--detach"); !strings.Contains(again.Stderr, "small runs already") || d.running().PID != r.PID {
		t.Errorf("started again: %v", again)
	}
	d.sov(0, "kept", "exec", "small", "--", "sh", "-c", "cat >/data/kept && fsync /data/kept")
	if list := d.sov(0, "", "list"); !strings.Contains(list.Stdout, "this computer") || strings.Contains(list.Stdout, r.Token) {
		t.Errorf("list: %v", list)
	}

	if o := d.sov(0, "", "status", "small", "--local"); !strings.Contains(o.Stdout, "on this computer: ready") || !strings.Contains(o.Stdout, "service writer: ready") {
		t.Errorf("status: %v", o)
	}

	d.usesGuest(r)

	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sovtest.Await(t, sovtest.WaitLimit, "QEMU's end after its parent's", func() bool { return errors.Is(syscall.Kill(r.QEMU, 0), syscall.ESRCH) })
	if left := d.running(); left != nil {
		t.Errorf("after a kill: %+v", left)
	}
	d.sov(0, "", "run", artifact, "--format", "disk", "--detach")
	r = d.running()
	if o := d.sov(0, "", "exec", "small", "--", "cat", "/data/kept"); o.Stdout != "kept" {
		t.Errorf("after a kill: %v", o)
	}
	d.sov(0, "", "stop", "small", "--local")
	if o := d.sov(1, "", "stop", "small", "--local"); !strings.Contains(o.Stderr, "small does not run on this computer") {
		t.Errorf("stopped twice: %v", o)
	}
	log, err := os.ReadFile(r.Console())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"EFI v2", "clock_set_by=0s", "init: power off"} { // the clock is not set back by the time that the firmware took
		if !strings.Contains(string(log), want) {
			t.Errorf("the console does not say %q:\n%s", want, log)
		}
	}
}

// usesGuest runs commands and a shell in the guest and checks what its journal records.
func (d *desk) usesGuest(r *localvm.Running) {
	t := d.t
	t.Helper()
	if o := d.sov(3, "some input", "exec", "small", "--", "sh", "-c", "cat; echo; id -un; echo oops >&2; exit 3"); o.Stdout != "some input\nroot\n" || o.Stderr != "oops\n" {
		t.Errorf("exec: %v", o)
	}
	if o := d.sov(127, "", "exec", "small", "--local", "--", "frobnicate"); !strings.Contains(o.Stderr, "sov: exec: frobnicate: file does not exist") {
		t.Errorf("an unknown command: %v", o)
	}
	// script(1) gives the shell a terminal and returns its exit status.
	shell := exec.Command("script", "-qec", sovtest.Program+" shell small", "/dev/null")
	d.prepare(shell, "tty; echo I am $(id -un)\nexit 5\n")
	o, err := sovtest.Finish(shell)
	if err != nil || o.Status != 5 || !strings.Contains(o.Stdout, "/dev/pts/") || !strings.Contains(o.Stdout, "I am root") {
		t.Errorf("shell: %v, %v", err, o)
	}
	log := d.sov(0, "", "exec", "small", "--", "cat", "/data/log/init").Stdout
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
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v", response)
	}
}

// TestUnit checks that the printed unit has absolute paths and that systemd accepts it.
func TestUnit(t *testing.T) {
	t.Parallel()
	d := &desk{t: t, dir: t.TempDir()}
	artifact := guesttest.BuildWriter(t)
	unit := d.sov(0, "", "run", artifact, "--systemd", "--port", "5432", "--state", "my state").Stdout
	want := `ExecStart=` + sovtest.Program + ` run --port=5432 "--state=` + d.dir + `/my state" ` + artifact + "\n"
	if !strings.Contains(unit, want) || !strings.Contains(unit, "Type=notify\n") {
		t.Errorf("the unit lacks %q:\n%s", want, unit)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	path := filepath.Join(d.dir, "sov-small.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", "--user", path)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+d.dir)
	if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), "sov-small.service") {
		t.Errorf("%v: %s\n%s", err, out, unit)
	}
}
