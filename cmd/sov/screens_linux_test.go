package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// statusText is an output of sov-runner's status with lines wider than a window.
const statusText = `sql        ready since 2026-11-26 18:00:00
slot a     1.0, installed 2026-11-25 12:00:00, ready since then, the version before this one
slot b     1.1, running, current
daemon     process 4711, 0 restarts of crosvm
crosvm     process 4712 of user 1900, since 2026-11-26 17:59:48
network    vm_sql, host 192.168.100.1/24, guest 192.168.100.2, uplink wlan0, IPv4 only
warning    the phone is low on space: 812 MiB are free, and the data disk may grow to 8192 MiB
guest      sql version 1.1, up for 3600 s
           postgres is ready
           tailscale is waiting: it has no auth key
disk data  7012 of 7988 MiB free, takes 976 MiB of the phone
database   PostgreSQL 17.5, 3 connections
backup     2026-11-25 23:00:00, 2 databases
`

// TestScreens compares the screens of terminals with 60 and 120 columns, with and without colours,
// with testdata/screens. No line may be wider than the window.
func TestScreens(t *testing.T) {
	server := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	server.Connect(p.ServeADB(androidtest.ADBOptions{}))
	pretend(t, p, "cat <<'END'\n"+statusText+"END\n")
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	work := t.TempDir()
	for _, columns := range []int{60, 120} {
		for _, noColor := range []string{"", "1"} {
			t.Setenv("NO_COLOR", noColor)
			check := func(name string, s *terminalRun, status int) {
				t.Helper()
				s.wantStatus(status)
				compareScreen(t, fmt.Sprintf("%s-%d", name, columns), columns, s.all)
			}

			s := atTerminalOf(t, columns, 24, "status", "sql", "--watch")
			s.expect("2 databases", "\x03")
			check("watch", s, exitDone)
			s = atTerminalOf(t, columns, 8, "status", "sql", "--watch") // in a low window
			s.expect("more lines", "\x03")
			check("watch-low", s, exitDone)
			s = atTerminalOf(t, columns, 24, "remove", "sql", "--data")
			s.expect("Type sql to continue: ", "no\n")
			s.expect("nothing was changed", "")
			check("remove", s, exitFailed)
			s = atTerminalOf(t, columns, 24, "secrets", "set", "sql", "postgres")
			s.expect("secret postgres of sql: ", "one\n")
			s.expect("again: ", "another\n")
			s.expect("differ", "")
			check("secret", s, exitFailed)
			t.Chdir(work)
			s = atTerminalOf(t, columns, 24, "init", "--no-lock")
			for _, question := range []string{"Name of the machine", "Memory", "Size of the data disk", "Join a tailnet", "More Alpine packages"} {
				s.expect(question, "\n")
			}
			s.expect("next: sov up ./mine.yaml", "")
			check("init", s, exitDone)
			if err := os.Remove("mine.yaml"); err != nil {
				t.Fatal(err)
			}
			t.Chdir(packageDir)
		}
	}
}

// TestWorkingIsShown verifies that a slow step is shown at a terminal while it runs, and erased
// afterwards.
func TestWorkingIsShown(t *testing.T) {
	server := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	server.Connect(p.ServeADB(androidtest.ADBOptions{}))
	pretend(t, p, "while [ ! -e /data/answer ]; do sleep 0.05; done; echo '[]'\n")
	s := atTerminal(t, "list", "-o", t.TempDir())
	s.expect("ask the phones", "")
	if err := os.WriteFile(p.File("/data/answer"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect("\x1b[1A\r\x1b[J", "") // move up a row and erase from there
	s.expect("no machine is built in this folder", "")
	s.wantStatus(exitDone)
}

// TestInterruptMessage verifies that the message after Ctrl-C reports what the command has done.
func TestInterruptMessage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cache := t.TempDir()
	if _, errOut, status := cli(t, "cache", "du", "--cache", cache); status != exitDone {
		t.Fatal(errOut)
	}
	for want, args := range map[string][]string{
		"sov: interrupted: no machine was changed": {"pull", "127.0.0.1:1/team/sql:1.0", "--progress", "json"},
		"sov: interrupted: verify again":           {"cache", "verify", "--cache", cache},
		"sov: interrupted: finished stages":        {"build", "sql", "--cache", cache, "--lock", filepath.Join(cache, "lock")},
	} {
		var out, errOut strings.Builder
		if status := execute(ctx, args, strings.NewReader(""), &out, &errOut); status != exitFailed || !strings.Contains(errOut.String(), want) {
			t.Errorf("%v: status %d: %s", args, status, errOut.String())
		}
	}
	root := newRoot()
	for path := range afterInterrupt {
		if c, rest, err := root.Find(strings.Fields(path)[1:]); err != nil || len(rest) > 0 || c.CommandPath() != path {
			t.Errorf("there is no command %s", path)
		}
	}
}

// packageDir is the folder of the golden files: tests change their working directory.
var packageDir, _ = os.Getwd()

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// compareScreen compares the shown text with a golden file and checks the width of its lines.
func compareScreen(t *testing.T, name string, columns int, shown string) {
	t.Helper()
	text := strings.ReplaceAll(shown, "\r\n", "\n")
	text, _, _ = strings.Cut(text, "^C") // the terminal's echo; another frame may follow
	for line := range strings.Lines(text) {
		line = escapes.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")
		if utf8.RuneCountInString(line) > columns {
			t.Errorf("%s: a line is wider than %d columns: %q", name, columns, line)
		}
	}
	text = strings.TrimRight(strings.ReplaceAll(text, "\x1b", "␛"), "\n") + "\n"
	path := filepath.Join(packageDir, "testdata", "screens", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (-update rewrites it):\n%s", path, text)
	}
}

// TestPushNextStep verifies that push prints at a terminal which command comes next, with the same
// phone.
func TestPushNextStep(t *testing.T) {
	server := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	a := p.ServeADB(androidtest.ADBOptions{})
	server.Connect(a)
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	p.Shell(`mkdir -p /data/sovereign; echo '{"arch": "arm64"}' >/data/sovereign/settings.json`)
	dir := artifacttest.Make(t, "sql", "1.0", []byte("kernel"), []byte("rootfs"))
	s := atTerminal(t, "push", dir, "--no-secrets", "--device", a.Serial())
	s.expect("next: sov start sql --device "+a.Serial(), "")
	s.wantStatus(exitDone)
	if out, errOut, status := cli(t, "push", dir, "--no-secrets"); status != exitDone || strings.Contains(out+errOut, "next:") {
		t.Errorf("without a terminal: status %d: %s%s", status, out, errOut)
	}
}
