package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/diagnose"
	"github.com/sovereign-sql/sov/internal/layout"
	"github.com/sovereign-sql/sov/internal/runnerapi"
)

// phoneCanary stands in every secret of the phone's.
var phoneCanary = newCanary()

var phonePassword = "the superuser's, for a phone: '\"\\ ü " + phoneCanary.text

// A handset is a simulated phone on which the sql machine is installed.
type handset struct {
	*androidtest.Phone
	t  testing.TB
	vm layout.VM
}

// settings are the runner's for these tests: the machine is an arm64 one, whatever this computer is.
const handsetSettings = `{"arch": "arm64", "shutdown_timeout": 30%s}`

// newHandset returns a phone with the artifact installed and the superuser's password pushed; more are settings beyond
// the usual ones, such as `, "crash_loop": 2`.
func newHandset(t testing.TB, o androidtest.Options, more string) *handset {
	t.Helper()
	return newHandsetWith(t, artifact(t, "arm64"), o, more)
}

// newHandsetWith is newHandset for another artifact.
func newHandsetWith(t testing.TB, dir string, o androidtest.Options, more string) *handset {
	t.Helper()
	h := &handset{Phone: androidtest.New(t, o), t: t}
	h.vm = h.Install(dir, "sql")
	h.put(layout.Default.Settings(), fmt.Sprintf(handsetSettings, more), 0o644)
	if err := os.MkdirAll(h.File(h.vm.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	h.put(h.vm.Secrets()+"/postgres", phonePassword, 0o600)
	return h
}

func (h *handset) put(path, text string, mode os.FileMode) {
	h.t.Helper()
	if err := os.WriteFile(h.File(path), []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

// runner runs sov-runner on the phone, for at most five minutes.
func (h *handset) runner(args ...string) outcome {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := h.Command(ctx, append([]string{layout.Default.Runner()}, args...)...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("sov-runner %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// do runs sov-runner and fails the test unless it succeeds.
func (h *handset) do(args ...string) outcome {
	h.t.Helper()
	o := h.runner(args...)
	if o.status != 0 {
		h.t.Fatalf("sov-runner %s: %v\n%s", strings.Join(args, " "), o, h.logs())
	}
	return o
}

// logs are what the phone's side wrote last.
func (h *handset) logs() string {
	var out strings.Builder
	for _, path := range []string{h.vm.Log(), h.vm.Console()} {
		text, _ := os.ReadFile(h.File(path))
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(path), text[max(0, len(text)-4000):])
	}
	return out.String()
}

func (h *handset) status() runnerapi.Status {
	h.t.Helper()
	var s runnerapi.Status
	if err := json.Unmarshal([]byte(h.do("status", "sql", "--json").stdout), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// waitLimit bounds a wait for what takes seconds, on a computer that has a lot to do.
const waitLimit = 4 * time.Minute

// eventually waits until a condition holds.
func (h *handset) eventually(what string, holds func() bool) {
	h.t.Helper()
	h.within(waitLimit, 20*time.Millisecond, what, holds)
}

// within looks again and again whether a condition holds, until it does, for at most limit.
func (h *handset) within(limit, pause time.Duration, what string, holds func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			h.t.Fatalf("after %v: not %s\n%s", limit, what, h.logs())
		}
		time.Sleep(pause)
	}
}

func (h *handset) ready() {
	h.t.Helper()
	h.eventually("ready", func() bool { return h.status().Phase == runnerapi.Ready })
}

// connect opens a session as the superuser from the phone's network.
func (h *handset) connect() *pgconn.PgConn {
	h.t.Helper()
	config, err := pgconn.ParseConfig("host=192.168.100.2 port=5432 user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		h.t.Fatal(err)
	}
	config.Password = phonePassword
	config.DialFunc = h.Dial
	ctx, cancel := context.WithTimeout(h.t.Context(), waitLimit)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		h.t.Fatalf("connect: %v\n%s", err, h.logs())
	}
	return conn
}

// ask returns the first column of what a statement answers.
func (h *handset) ask(sql string) []string {
	h.t.Helper()
	conn := h.connect()
	defer conn.Close(context.Background())
	ctx, cancel := context.WithTimeout(h.t.Context(), waitLimit)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	var column []string
	for _, result := range results {
		for _, row := range result.Rows {
			column = append(column, string(row[0]))
		}
	}
	return column
}

// shell runs a command in the guest, as the database's user, and returns its lines.
func (h *handset) shell(command string) string {
	h.t.Helper()
	quoted := strings.ReplaceAll(command, "'", "''")
	return strings.Join(h.ask("create temporary table shell (line text); "+
		"copy shell from program '"+quoted+"' with (format csv, delimiter E'\\x01', quote E'\\x02'); select line from shell"), "\n")
}

// serveAddress makes the internet's server tell every client its address as the server sees it.
func (h *handset) serveAddress() {
	h.Serve(80, func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Read(make([]byte, 4096))
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(host)+1, host)
	})
}

// fetch is what the guest runs to learn by which of the phone's addresses it is seen.
const fetch = "wget -q -O - -T 30 http://" + androidtest.ServerIP + "/ 2>&1 || true"

func (h *handset) diagnose(flags ...string) diagnose.Report {
	h.t.Helper()
	o := h.runner(append([]string{"diagnose", "sql", "--json"}, flags...)...)
	var report diagnose.Report
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil {
		h.t.Fatalf("%v: %v", err, o)
	}
	if (o.status == 3) != report.Broken() || o.status != 0 && o.status != 3 {
		h.t.Errorf("exit status %d for %+v", o.status, report)
	}
	return report
}

// The machine on the phone, from nothing: it reaches the internet by each uplink, answers SQL to the phone, and leaves
// nothing behind.
func TestPhone(t *testing.T) {
	t.Parallel()
	for _, routing := range []string{"main-first", "scoped"} {
		t.Run(routing, func(t *testing.T) {
			h := newHandset(t, androidtest.Options{}, `, "vms": {"sql": {"routing": "`+routing+`"}}`)
			before := h.Snapshot()
			h.serveAddress()
			start := time.Now()
			o := h.do("up", "sql")
			t.Logf("up took %.1f s: %s%s", time.Since(start).Seconds(), o.stderr, o.stdout)
			if got := h.shell(fetch); got != androidtest.WLANIP {
				t.Errorf("on wlan0, the guest reaches the internet as %q, want %s", got, androidtest.WLANIP)
			}
			h.ask("create table journey (stop text)")
			for _, uplink := range []struct{ name, address string }{{"rmnet0", androidtest.MobileIP}, {"wlan0", androidtest.WLANIP}} {
				h.SwitchUplink(uplink.name)
				switched := time.Now()
				h.eventually("on "+uplink.name, func() bool { return h.shell(fetch) == uplink.address })
				t.Logf("%s after %v", uplink.name, time.Since(switched).Round(time.Millisecond))
				h.ask("insert into journey values ('" + uplink.name + "')")
			}
			if again := h.do("up", "sql"); !strings.Contains(again.stdout, "ready") {
				t.Errorf("up again: %v", again)
			}
			if report := h.diagnose(); report.Broken() {
				t.Errorf("diagnose: %+v", report)
			}
			h.do("restart", "sql")
			if got := h.ask("select stop from journey"); strings.Join(got, " ") != "rmnet0 wlan0" {
				t.Errorf("after a restart: %q", got)
			}
			h.do("down", "sql")
			same(t, "after down", before, h.Snapshot())
			h.do("down", "sql")
			if left := h.Shell("ls -A " + h.vm.Run()); strings.Contains(left, "sock") || strings.Contains(left, "token") || strings.Contains(left, "config") {
				t.Errorf("down left %s", left)
			}
		})
	}
}

// same fails the test where two snapshots differ, with the lines that do.
func same(t testing.TB, what, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	t.Errorf("%s: the phone's network differs", what)
	for _, line := range androidtest.Differences(before, after) {
		t.Error(line)
	}
}
