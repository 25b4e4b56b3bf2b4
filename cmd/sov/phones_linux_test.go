package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
)

// useADB starts an adb server for the test and lets the program find only that one.
func useADB(t *testing.T) *androidtest.ADBServer {
	t.Helper()
	s := androidtest.NewADBServer(t)
	t.Setenv("PATH", filepath.Dir(s.Program())+":"+os.Getenv("PATH"))
	t.Setenv("ANDROID_SERIAL", "")
	return s
}

// pretend replaces the phone's sov-runner with a script.
func pretend(t *testing.T, p *androidtest.Phone, script string) {
	t.Helper()
	path := p.File(phonepath.Default.Runner())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := childtest.WriteScript(path, "#!/bin/sh\n"+script); err != nil {
		t.Fatal(err)
	}
}

func TestPhoneCommandsFindTheirPhone(t *testing.T) {
	s := useADB(t)
	if _, errOut, status := cli(t, "status", "sql"); status != exitFailed || !strings.Contains(errOut, "no phone is attached") {
		t.Errorf("without a phone: status %d: %s", status, errOut)
	}
	one, two := androidtest.New(t, androidtest.Options{}), androidtest.New(t, androidtest.Options{})
	first, second := one.ServeADB(androidtest.ADBOptions{}), two.ServeADB(androidtest.ADBOptions{})
	s.Connect(first, second)
	pretend(t, one, `echo "first: $*"; echo working >&2`)
	pretend(t, two, `echo "second: $*"; echo 'sov-runner: it is broken' >&2; exit 1`)

	out, errOut, status := cli(t, "stop", "sql")
	if status != exitUsage || !strings.Contains(errOut, first.Serial()) || !strings.Contains(errOut, second.Serial()) || out != "" {
		t.Errorf("two phones: status %d: %s%s", status, out, errOut)
	}
	out, errOut, status = cli(t, "stop", "sql", "--device", first.Serial())
	if status != exitDone || out != "first: down sql\n" || errOut != "working\n" {
		t.Errorf("one by its serial: status %d: %s%s", status, out, errOut)
	}
	out, errOut, status = cli(t, "start", "sql", "--all", "--no-wait", "--timeout", "90s")
	for _, line := range []string{first.Serial() + ": first: up sql --no-wait --timeout 1m30s\n", second.Serial() + ": second: up sql"} {
		if !strings.Contains(out, line) {
			t.Errorf("all: %q is not in %q", line, out)
		}
	}
	if status != exitFailed || !strings.Contains(errOut, "sov: "+second.Serial()+": it is broken") || !strings.Contains(errOut, first.Serial()+": working\n") {
		t.Errorf("all: status %d: %s", status, errOut)
	}
	t.Setenv("ANDROID_SERIAL", second.Serial())
	if _, errOut, status = cli(t, "stop", "sql"); status != exitFailed || errOut != "sov: it is broken\n" {
		t.Errorf("$ANDROID_SERIAL: status %d: %s", status, errOut)
	}

	pretend(t, one, `echo '{"phase": "ready"}'`)
	pretend(t, two, `echo '{"phase": "down"}'; exit 3`)
	out, errOut, status = cli(t, "diagnose", "sql", "--json", "-s", first.Serial(), "-s", second.Serial())
	var answers []struct {
		Device string
		Result struct{ Phase string }
		Found  bool
	}
	if err := json.Unmarshal([]byte(out), &answers); err != nil || len(answers) != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	if status != exitFound || answers[0].Result.Phase != "ready" || answers[0].Found || answers[1].Result.Phase != "down" || !answers[1].Found {
		t.Errorf("status %d: %+v: %s", status, answers, errOut)
	}
}

func TestPhoneCommandsDistrustThePhone(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	for _, c := range []struct {
		name, script string
		args         []string
		out, errOut  string // words
		status       int
	}{
		{name: "escape sequences", script: `printf '\033[31mred\033[0m \033]0;title\007 \302\233x\r\n'`, args: []string{"logs", "sql"}, out: `red \x1b]0;title\a \u009bx` + "\n"},
		{name: "no JSON", script: "echo hello", args: []string{"status", "sql", "--json"}, errOut: "not JSON", status: exitFailed},
		{name: "endless", script: "yes", args: []string{"status", "sql", "--json"}, errOut: "longer than", status: exitFailed},
		{name: "older", script: `echo 'sov-runner: unknown command "test" for "sov-runner"' >&2; exit 2`, args: []string{"test", "sql"}, errOut: "older than this sov", status: exitFailed},
		{name: "something found", script: "echo report; exit 3", args: []string{"test", "sql"}, out: "report\n", errOut: "sql on", status: exitFound},
		{name: "lines of a complaint", script: "printf 'sov-runner: one\\ntwo\\n' >&2; exit 1", args: []string{"start", "sql"}, errOut: "sov: one\ntwo\n", status: exitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			pretend(t, p, c.script)
			out, errOut, status := cli(t, c.args...)
			if status != c.status || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.errOut) || strings.Contains(out+errOut, "\x1b") {
				t.Errorf("status %d, out %q, errOut %q, want %+v", status, out, errOut, c)
			}
		})
	}
	os.Remove(p.File(phonepath.Default.Runner()))
	if _, errOut, status := cli(t, "status", "sql"); status != exitFailed || !strings.Contains(errOut, "`sov push sql` installs it") || strings.Contains(errOut, "not found") {
		t.Errorf("without a runner: status %d: %s", status, errOut)
	}
}

// TestLogsFollowEnds verifies that Ctrl-C ends `sov logs --follow` on this computer and on the
// phone.
func TestLogsFollowEnds(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	p.Shell("mkdir -p /data/sovereign/vms/sql/run; echo booted >/data/sovereign/vms/sql/run/console.log")
	ctx, cancel := context.WithCancel(t.Context())
	out := &canceller{word: "booted", cancel: cancel}
	var errOut strings.Builder
	if status := execute(ctx, []string{"logs", "sql", "-f"}, strings.NewReader(""), out, &errOut); status != exitDone {
		t.Errorf("status %d: %s", status, errOut.String())
	}
	p.Eventually("sov-runner has ended", func() bool { return p.Shell("pidof sov-runner || true") == "" })
}

// A canceller calls cancel when a certain word is written.
type canceller struct {
	word   string
	cancel func()
}

func (c *canceller) Write(p []byte) (int, error) {
	if strings.Contains(string(p), c.word) {
		c.cancel()
	}
	return len(p), nil
}

func TestRemove(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	install := `cd /data/sovereign; mkdir -p vms/sql/slots/a vms/sql/run secrets/sql; ln -sfn slots/a vms/sql/current
		echo data >vms/sql/data.img; echo x >secrets/sql/postgres; chmod 700 secrets secrets/sql vms/sql/run; chmod 600 secrets/sql/postgres`
	p.Shell(install)
	if _, errOut, status := cli(t, "remove", "sql", "--data"); status != exitUsage || !strings.Contains(errOut, "--yes") {
		t.Errorf("unasked: status %d: %s", status, errOut)
	}
	if out, errOut, status := cli(t, "remove", "sql"); status != exitDone || !strings.Contains(out, "kept: /data/sovereign/vms/sql/data.img") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	left := func(want string) {
		t.Helper()
		if got := strings.Join(strings.Fields(p.Shell("cd /data; find sovereign ! -type d | sort; ls -d sovereign || true")), " "); got != want {
			t.Errorf("left: %s, want %s", got, want)
		}
	}
	const users = "sovereign/secrets/sql/postgres sovereign/vms/sql/data.img sovereign"
	left(users)
	if _, errOut, status := cli(t, "status", "sql"); status != exitFailed || !strings.Contains(errOut, "`sov push sql` installs it") {
		t.Errorf("status of what was removed: status %d: %s", status, errOut)
	}
	if out, errOut, status := cli(t, "remove", "sql"); status != exitDone || !strings.Contains(out, "sql is not installed\nkept: /data/sovereign/vms/sql/data.img") {
		t.Errorf("again: status %d: %s%s", status, out, errOut)
	}
	left(users)
	// Kept data can be removed later, after sov-runner was removed.
	remove := func(name string) (removal runnerapi.Removal) {
		t.Helper()
		out, errOut, status := cli(t, "remove", name, "--data", "--yes", "--json")
		if err := json.Unmarshal([]byte(out), &removal); err != nil || status != exitDone {
			t.Fatalf("status %d: %v: %s%s", status, err, out, errOut)
		}
		return removal
	}
	if r := remove("sql"); !r.Found || len(r.Kept) != 0 {
		t.Errorf("the data: %+v", r)
	}
	left("")
	if r := remove("sql"); r.Found || len(r.Removed)+len(r.Kept) != 0 {
		t.Errorf("nothing: %+v", r)
	}
	left("")
}

// TestRemoveOneOfTwo verifies that removing a machine keeps everything that other machines share,
// and that removing the last machine removes that too. The user's files are kept.
func TestRemoveOneOfTwo(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	p.InstallLight("sql", vmspec.Scoped, lightguest.Script{})
	p.InstallLight("other", vmspec.Scoped, lightguest.Script{})
	p.Shell(`cd /data/sovereign; echo '{"shutdown_timeout": 1}' >settings.json; echo '{' >network.json.damaged; mkdir -p vms/third; touch vms/third/data.img`)
	before := p.Snapshot()
	p.Shell("/data/sovereign/bin/sov-runner up other; rm /data/sovereign/vms/other/current") // a manual change
	up := p.Snapshot()
	if out, errOut, status := cli(t, "remove", "sql"); status != exitDone || out != "sql is removed\n" {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	if got := p.Shell("cd /data/sovereign; ls . vms; pidof sov-runner | wc -w"); got != ".:\nbin\nnetwork.json\nnetwork.json.damaged\nnetwork.json.lock\nsettings.json\nvms\n\nvms:\nother\nthird\n1\n" {
		t.Errorf("one of two: %s", got)
	}
	if now := p.Snapshot(); now != up {
		t.Errorf("the other's network: %s\nwas: %s", now, up)
	}
	if out := p.Shell("/data/sovereign/bin/sov-runner remove other"); out != "other is removed\nkept: /data/sovereign/settings.json\n" {
		t.Errorf("the last: %s", out)
	}
	if got := p.Shell("cd /data/sovereign; find . ! -type d | sort"); got != "./settings.json\n./vms/third/data.img\n" {
		t.Errorf("the last: %s", got)
	}
	p.Eventually("the daemon has ended", func() bool { return p.Shell("pidof sov-runner || true") == "" })
	if now := p.Snapshot(); now != before {
		t.Errorf("the network: %s\nwas: %s", now, before)
	}
}

// TestPhoneQuestions verifies that sov asks at a terminal which phone to use and whether to delete
// data.
func TestPhoneQuestions(t *testing.T) {
	server := useADB(t)
	one, two := androidtest.New(t, androidtest.Options{}), androidtest.New(t, androidtest.Options{})
	server.Connect(one.ServeADB(androidtest.ADBOptions{}), two.ServeADB(androidtest.ADBOptions{}))
	for _, p := range []*androidtest.Phone{one, two} {
		pretend(t, p, `echo "done: $*"`)
	}
	s := atTerminal(t, "stop", "sql")
	s.expect("Which one? [1-2] ", "7\n")
	s.expect("Which one? [1-2] ", "2\n")
	s.expect("done: down sql", "")
	s.wantStatus(exitDone)

	s = atTerminal(t, "remove", "sql", "--data", "--all")
	s.expect("Type sql to continue: ", "no\n")
	s.expect("nothing was changed", "")
	s.wantStatus(exitFailed)

	s = atTerminal(t, "remove", "sql", "--data", "--all")
	s.expect("Type sql to continue: ", "sql\n")
	s.expect("done: remove sql --data", "")
	s.wantStatus(exitDone)
}

// TestPushAsksForTrust verifies that the first push of a signed machine asks whether the phone
// should trust its key. It does not ask if the machine is installed or the phone already trusts a
// key.
func TestPushAsksForTrust(t *testing.T) {
	server := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	server.Connect(p.ServeADB(androidtest.ADBOptions{}))
	p.Shell(`echo '{"arch": "arm64"}' >/data/sovereign/settings.json`)
	t.Setenv("SOV_STATE_DIR", t.TempDir())
	key := artifacttest.Key(t, 1)
	version := func(name, version string, serial int64) string {
		dir := artifacttest.Make(t, name, version, []byte("kernel"), []byte("rootfs "+version))
		artifacttest.Sign(t, dir, key, serial)
		return dir
	}
	push := func(answer, dir string) {
		t.Helper()
		s := atTerminal(t, "push", dir, "--no-secrets")
		if answer != "" {
			s.expect("from now on? [y/N] ", answer)
		}
		s.expect(", signed by key ", "") // a question before this would block
		s.wantStatus(exitDone)
	}
	push("\n", version("sql", "1", 1))
	push("", version("sql", "2", 2))
	if got := p.Shell("ls /data/sovereign/trust"); got != "serials.json\n" {
		t.Errorf("answered with no: %s", got)
	}
	push("y\n", version("web", "1", 1))
	push("", version("other", "1", 1))
	unsigned := artifacttest.Make(t, "sql", "3", []byte("kernel"), []byte("rootfs 3"))
	if _, errOut, status := cli(t, "push", unsigned, "--no-secrets"); status != exitFound || !strings.Contains(errOut, "it is not signed") {
		t.Errorf("answered with yes: status %d: %s", status, errOut)
	}
}

func TestDoctorChecksPhones(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{Hypervisor: "none"})
	a := p.ServeADB(androidtest.ADBOptions{})
	s.Connect(a)
	p.Shell(`echo '{"arch": "arm64"}' >/data/sovereign/settings.json`)
	out, errOut, status := cli(t, "doctor", "--only", "phone")
	if status != exitFound || !strings.Contains(out, "FAILED   hypervisor") || !strings.Contains(out, "ok       root") || !strings.Contains(errOut, "1 of 7 checks") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	if out, _, _ = cli(t, "doctor", "--only", "cache", "--device", a.Serial(), "--json"); strings.Count(out, `"group": "phone"`) != 7 {
		t.Errorf("with --device: %s", out)
	}
	file := filepath.Join(t.TempDir(), "phone.txt")
	if out, errOut, status := cli(t, "doctor", "--report", file); status != exitDone || !strings.Contains(out, "read it before you attach it") {
		t.Errorf("--report: status %d: %s%s", status, out, errOut)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "[ro.product.model]: [Simulated Phone]") {
		t.Errorf("--report: %s, %v", text, err)
	}
}

// TestForward verifies that several connections pass through the phone's link at once, and that
// Ctrl-C ends forward and all connections.
func TestForward(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	pretend(t, p, `case "$*" in *status*) echo "{\"crosvm_alive\": true}";; *) exec cat;; esac`)
	report, interrupt := startForward(t)
	content := bytes.Repeat([]byte("\x00\xff"), 1<<19)
	var connections sync.WaitGroup
	for range 3 {
		connections.Go(func() {
			conn, err := net.Dial("tcp", report.Address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			go func() {
				conn.Write(content)
				conn.(*net.TCPConn).CloseWrite()
			}()
			if back, err := io.ReadAll(conn); err != nil || !bytes.Equal(back, content) {
				t.Errorf("%d bytes came back changed, as %d: %v", len(content), len(back), err)
			}
		})
	}
	connections.Wait()
	conn, err := net.Dial("tcp", report.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, echo(conn)); err != nil {
		t.Fatal(err)
	}
	interrupt()
	pretend(t, p, "echo fine")
	for range 3 {
		if out, errOut, status := cli(t, "status", "sql"); status != exitDone || out != "fine\n" {
			t.Errorf("afterwards: status %d: %s%s", status, out, errOut)
		}
	}
}

// echo writes a word and returns a buffer of its length for the answer.
func echo(w io.Writer) []byte {
	n, _ := io.WriteString(w, "word")
	return make([]byte, n)
}

// TestPushDowngrade verifies that push replaces a newer sov-runner only if a flag allows it.
func TestPushDowngrade(t *testing.T) {
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	p.Shell(`echo '{"arch": "arm64"}' >/data/sovereign/settings.json`)
	build := exec.Command("go", "build", "-ldflags=-X main.release=v99.0.0", "-o", p.File(phonepath.Default.Runner()), "github.com/sovereign-sql/sov/cmd/sov-runner")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := p.Shell("/data/sovereign/bin/sov-runner version"); !strings.HasPrefix(got, "sov-runner v99.0.0 sha256:") {
		t.Errorf("its version: %s", got)
	}
	defer func(was string) { version = was }(version)
	version = "v1.0.0"
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), []byte("rootfs"))
	_, errOut, status := cli(t, "push", dir, "--no-secrets")
	if status != exitFailed || !strings.Contains(errOut, "has release v99.0.0, this sov has v1.0.0") || !strings.Contains(errOut, "--replace-runner") {
		t.Errorf("a newer one: status %d: %s", status, errOut)
	}
	if got := p.Shell("cd /data/sovereign; ls; bin/sov-runner version"); !strings.HasPrefix(got, "bin\nsettings.json\nsov-runner v99.0.0 ") {
		t.Errorf("after it was refused: %s", got)
	}
	out, errOut, status := cli(t, "push", dir, "--no-secrets", "--replace-runner")
	if status != exitDone || !strings.Contains(out, "sov-runner of this sov (v1.0.0) in place of v99.0.0") {
		t.Errorf("on purpose: status %d: %s%s", status, out, errOut)
	}
}
