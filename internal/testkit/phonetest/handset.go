package phonetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/await"
	"github.com/sovereign-sql/sov/internal/testkit/canary"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// Canary is part of every secret of the phone.
var Canary = canary.New()

var Password = "the superuser's, for a phone: '\"\\ ü " + Canary.Text

// A Handset is a simulated phone on which the sql machine is installed.
type Handset struct {
	*androidtest.Phone
	T  testing.TB
	VM phonepath.VM
}

// handsetSettings are the runner's settings for these tests. The machine is for arm64 on every
// computer.
const handsetSettings = `{"arch": "arm64", "shutdown_timeout": 30%s}`

// New returns a phone with the sql recipe's artifact, the data of an earlier start and the
// superuser's password. more are additional settings, such as `, "crash_loop": 2`.
func New(t testing.TB, o androidtest.Options, more string) *Handset {
	t.Helper()
	return NewWith(t, sovtest.Artifact(t, "arm64"), o, more)
}

// NewWith is New with the artifact in the folder dir.
func NewWith(t testing.TB, dir string, o androidtest.Options, more string) *Handset {
	t.Helper()
	h := install(t, dir, "sql", o, more)
	if err := os.MkdirAll(h.File(h.VM.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Put(h.VM.Secrets()+"/postgres", Password, 0o600)
	h.Seed(h.VM)
	return h
}

// NewSmall returns a phone on which an artifact of guesttest.BuildWriterOn is installed.
func NewSmall(t testing.TB, dir string) *Handset {
	t.Helper()
	return install(t, dir, "small", androidtest.Options{}, "")
}

func install(t testing.TB, dir, name string, o androidtest.Options, more string) *Handset {
	t.Helper()
	h := &Handset{Phone: androidtest.New(t, o), T: t}
	h.VM = h.Install(dir, name)
	h.Put(phonepath.Default.Settings(), fmt.Sprintf(handsetSettings, more), 0o644)
	return h
}

// Seed gives a machine the data disk of an earlier start.
func (h *Handset) Seed(vm phonepath.VM) {
	h.T.Helper()
	guesttest.CopySparse(h.T, filepath.Join(guesttest.Seed(h.T, "arm64"), "data.img"), h.File(vm.Data()))
}

func (h *Handset) Put(path, text string, mode os.FileMode) {
	h.T.Helper()
	if err := os.WriteFile(h.File(path), []byte(text), mode); err != nil {
		h.T.Fatal(err)
	}
}

// Runner runs sov-runner on the phone, for at most 20 minutes.
func (h *Handset) Runner(args ...string) sovtest.Outcome {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), 20*time.Minute)
	defer cancel()
	result, err := sovtest.Finish(h.Command(ctx, append([]string{phonepath.Default.Runner()}, args...)...))
	if err != nil {
		h.T.Fatalf("sov-runner %s: %v", strings.Join(args, " "), err)
	}
	return result
}

// Do runs sov-runner and fails the test unless it succeeds.
func (h *Handset) Do(args ...string) sovtest.Outcome {
	h.T.Helper()
	o := h.Runner(args...)
	if o.Status != 0 {
		h.T.Fatalf("sov-runner %s: %v\n%s", strings.Join(args, " "), o, h.Logs())
	}
	return o
}

// Logs returns the ends of the runner's log and of the guest's console.
func (h *Handset) Logs() string {
	var out strings.Builder
	for _, path := range []string{h.VM.Log(), h.VM.Console()} {
		text, _ := os.ReadFile(h.File(path))
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(path), text[max(0, len(text)-4000):])
	}
	return out.String()
}

// Status returns the status of the machine sql from sov-runner.
func (h *Handset) Status() *health.Machine {
	h.T.Helper()
	return Health(h.T, h.Do("status", h.VM.Name, "--json").Stdout)
}

// Eventually waits until a condition holds.
func (h *Handset) Eventually(what string, holds func() bool) {
	h.T.Helper()
	h.Within(sovtest.WaitLimit, 20*time.Millisecond, what, holds)
}

// Within polls a condition until it holds, for at most limit, and then fails the test.
func (h *Handset) Within(limit, pause time.Duration, what string, holds func() bool) {
	h.T.Helper()
	if !await.Until(limit, pause, holds) {
		h.T.Fatalf("after %v: not %s\n%s", limit, what, h.Logs())
	}
}

func (h *Handset) Ready() {
	h.T.Helper()
	h.Eventually("ready", func() bool { return h.Status().Phase == runnerapi.Ready })
}

// connect logs in to the database as the superuser from the phone's network.
func (h *Handset) connect() *pgconn.PgConn {
	h.T.Helper()
	config, err := pgconn.ParseConfig("host=192.168.100.2 port=5432 user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		h.T.Fatal(err)
	}
	config.Password = Password
	config.DialFunc = h.Dial
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		h.T.Fatalf("connect: %v\n%s", err, h.Logs())
	}
	return conn
}

// Ask returns the first column of a statement's result.
func (h *Handset) Ask(sql string) []string {
	h.T.Helper()
	conn := h.connect()
	defer conn.Close(context.Background())
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		h.T.Fatalf("%s: %v", sql, err)
	}
	var column []string
	for _, result := range results {
		for _, row := range result.Rows {
			column = append(column, string(row[0]))
		}
	}
	return column
}

// GuestShell runs a script in the guest, as root in a session, and returns its output.
func (h *Handset) GuestShell(script string) string {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, finish := h.session(ctx)
	defer finish()
	return strings.TrimSuffix(guesttest.Script(h.T, ctx, conn, script), "\n")
}

// GuestBackground starts a script in the guest, as root in a session, and returns when it runs. The
// script runs until it ends, or the guest or the test does.
func (h *Handset) GuestBackground(script string) {
	h.T.Helper()
	conn, finish := h.session(h.T.Context())
	begun, said := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer finish()
		_, err := session.Run(h.T.Context(), conn, session.Start{Command: []string{"/bin/sh", "-c", "echo begun; " + script}, Caller: "test"},
			session.Streams{In: strings.NewReader(""), Out: said, Errors: io.Discard})
		said.CloseWithError(err)
	}()
	if _, err := io.ReadFull(begun, make([]byte, len("begun\n"))); err != nil {
		h.T.Fatalf("%s: it does not begin: %v", script, err)
	}
	go io.Copy(io.Discard, begun)
	h.T.Cleanup(func() { <-ended }) // the test's context is done at this point
}

// session opens a session in the guest. The caller must call finish at its end.
func (h *Handset) session(ctx context.Context) (conn *session.Conn, finish func()) {
	h.T.Helper()
	command := h.Command(ctx, phonepath.Default.Runner(), "session", "sql")
	in, err := command.StdinPipe()
	if err != nil {
		h.T.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		h.T.Fatal(err)
	}
	if err := command.Start(); err != nil {
		h.T.Fatal(err)
	}
	return session.NewConn(out, in, in.Close), func() {
		in.Close()
		command.Wait()
	}
}

// ServeAddress makes the server in the internet answer each client with the client's address.
func (h *Handset) ServeAddress() {
	h.Serve(80, func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Read(make([]byte, 4096))
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(host)+1, host)
	})
}

// FetchAddress is a guest command that prints the phone's address that the server sees.
const FetchAddress = "wget -q -O - -T 30 http://" + androidtest.ServerIP + "/ 2>&1 || true"

func (h *Handset) Diagnose(flags ...string) *health.Machine {
	h.T.Helper()
	o := h.Runner(append([]string{"diagnose", "sql", "--json"}, flags...)...)
	report := Health(h.T, o.Stdout)
	if (o.Status == 3) != (report.Cause != "") || o.Status != 0 && o.Status != 3 {
		h.T.Errorf("exit status %d for %+v", o.Status, report)
	}
	return report
}

// SameNetwork fails the test if two snapshots differ, and reports the lines that differ.
func SameNetwork(t testing.TB, what, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	t.Errorf("%s: the phone's network differs", what)
	for _, line := range androidtest.Differences(before, after) {
		t.Error(line)
	}
}

// Left fails the test unless want lists exactly the files below /data/sovereign and crosvm does not
// run.
func Left(t testing.TB, h *Handset, when, want string) {
	t.Helper()
	if got := strings.Join(strings.Fields(h.Shell("cd /data/sovereign; find . ! -type d | sort; ps -eo args | grep -c [c]rosvm || true")), " "); got != want+" 0" {
		t.Errorf("%s: left: %s", when, got)
	}
}

// RunnerLog returns the runner's log on the phone.
func (h *Handset) RunnerLog() string {
	text, _ := os.ReadFile(h.File(h.VM.Log()))
	return string(text)
}

// KillRandomProcess starts the machine and kills its daemon, crosvm or both with SIGKILL, at a
// random time within late.
func (h *Handset) KillRandomProcess(random *rand.Rand, late time.Duration) {
	h.T.Helper()
	h.Do("up", "sql", "--no-wait")
	pause := time.NewTimer(time.Duration(random.Int64N(int64(late)))) // the test is about random moments
	<-pause.C
	who := [][]string{{"sov-runner"}, {"crosvm"}, {"sov-runner", "crosvm"}, {"crosvm", "sov-runner"}}[random.IntN(4)]
	for _, name := range who {
		// Select processes of the phone by their program: crosvm may change its process name.
		h.Shell("for p in /proc/[0-9]*; do if [ \"$(basename $(readlink $p/exe) 2>/dev/null)\" = " + name + " ]; then kill -9 ${p#/proc/} 2>/dev/null || true; fi; done")
	}
}

// Suspend stops the machine's daemon, so that it repairs nothing, and returns a function that
// resumes the daemon. The daemon is not stopped while it holds the lock of the network's ledger:
// every other sov-runner would wait for it.
func (h *Handset) Suspend() (resume func()) {
	h.T.Helper()
	pid := h.Status().Daemon
	lock, err := durable.WaitLock(h.T.Context(), h.File(phonepath.Default.Ledger()+".lock"), durable.Exclusive, durable.LockOptions{Existing: true})
	if err != nil {
		h.T.Fatal(err)
	}
	defer lock.Release()
	h.Shell(fmt.Sprintf("kill -STOP %d", pid))
	return func() { h.Shell(fmt.Sprintf("kill -CONT %d", pid)) }
}

// Slot returns one of the machine's slots.
func (h *Handset) Slot(name string) runnerapi.Slot {
	h.T.Helper()
	for _, s := range h.Status().Slots {
		if s.Slot == name {
			return s
		}
	}
	h.T.Fatalf("there is no slot %s", name)
	return runnerapi.Slot{}
}

// InstallNext installs the artifact in dir, a folder on this computer, as the phone's next version.
func (h *Handset) InstallNext(dir string) {
	h.T.Helper()
	const at = "/data/local/machine"
	if err := errors.Join(os.RemoveAll(h.File(at)), os.CopyFS(h.File(at), os.DirFS(dir))); err != nil {
		h.T.Fatal(err)
	}
	h.Do("install", h.VM.Name, at)
}

// Resident returns the resident memory of a process on the phone, in bytes.
func (h *Handset) Resident(pid int) int64 {
	h.T.Helper()
	for line := range strings.Lines(h.Shell(fmt.Sprintf("cat /proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				h.T.Fatal(err)
			}
			return kib << 10
		}
	}
	h.T.Fatalf("process %d has no memory", pid)
	return 0
}
