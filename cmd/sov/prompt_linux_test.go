package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
)

// TestMain runs the command line instead of the tests if a test starts it as a separate process.
func TestMain(m *testing.M) {
	if os.Getenv("SOV_TEST_RUN_CLI") != "" {
		main()
	}
	status := m.Run()
	androidtest.RemovePrograms()
	os.Exit(status)
}

// A terminalRun is a run of the program at a pseudo-terminal.
type terminalRun struct {
	t        *testing.T
	command  *exec.Cmd
	release  *os.File // lets the session end
	terminal *os.File // the user's side
	before   *unix.Termios
	shown    string
	all      string // since the start
}

// leader is the script of the session's first process. It outlives the program until descriptor 3
// is closed: when a session's first process ends, Linux discards the terminal's output that was not
// read (tty_ldisc_hangup in drivers/tty/tty_ldisc.c).
const leader = `trap : INT; "$0" "$@"; status=$?; read -r _ <&3; exit $status`

func atTerminal(t *testing.T, args ...string) *terminalRun {
	t.Helper()
	return atTerminalOf(t, 80, 24, args...)
}

// atTerminalOf is like atTerminal with a window of the given size.
func atTerminalOf(t *testing.T, columns, rows int, args ...string) *terminalRun {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)})
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // limits expect
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", leader, program}, args...)...)
	command.Env = append(os.Environ(), "SOV_TEST_RUN_CLI=1")
	held, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	t.Cleanup(func() { release.Close() })
	command.ExtraFiles = []*os.File{held}
	command.Stdin, command.Stdout, command.Stderr = theirs, theirs, theirs
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	before, err := unix.IoctlGetTermios(int(user.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return &terminalRun{t: t, command: command, release: release, terminal: user, before: before}
}

// expect waits until the program has shown a text since the last expect, and types an answer.
func (s *terminalRun) expect(text, answer string) {
	s.t.Helper()
	buffer := make([]byte, 4096)
	for !strings.Contains(s.shown, text) {
		n, err := s.terminal.Read(buffer)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v; shown: %q", text, err, s.shown)
		}
		s.shown += string(buffer[:n])
		s.all += string(buffer[:n])
	}
	if strings.Contains(s.shown, "c4n4ry") {
		s.t.Errorf("a secret is shown: %q", s.shown)
	}
	_, s.shown, _ = strings.Cut(s.shown, text)
	if _, err := s.terminal.WriteString(answer); err != nil {
		s.t.Fatal(err)
	}
}

func (s *terminalRun) wantStatus(want int) {
	s.t.Helper()
	s.release.Close()
	s.command.Wait()
	if got := s.command.ProcessState.ExitCode(); got != want {
		s.t.Errorf("status %d, want %d; shown: %q", got, want, s.shown)
	}
}

func TestSecretsAtATerminal(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	s := atTerminal(t, "secrets", "set", "sql", "postgres")
	s.expect("secret postgres of sql: ", "c4n4ry  \u00e9'\"\\\n")
	s.expect("again: ", "c4n4ry  \u00e9'\"\\\n")
	s.expect("is set", "")
	s.wantStatus(exitDone)
	if got, want := secretValue(t, "sql", "postgres", ""), "c4n4ry  \u00e9'\"\\"; got != want {
		t.Errorf("%q is kept, want %q", got, want)
	}

	s = atTerminal(t, "secrets", "set", "sql", "postgres")
	s.expect("secret postgres of sql: ", "c4n4ry1\n")
	s.expect("again: ", "c4n4ry2\n")
	s.expect("differ", "")
	s.wantStatus(exitFailed)

	s = atTerminal(t, "secrets", "set", "sql", "tailscale", "--passphrase")
	s.expect("new passphrase for the secrets: ", "c4n4ry phrase\n")
	s.expect("again: ", "c4n4ry phrase\n")
	s.expect("encrypted 1 that were kept plain", "")
	s.expect("secret tailscale of sql: ", "c4n4ry key\n")
	s.expect("again: ", "c4n4ry key\n")
	s.expect("is set", "")
	s.wantStatus(exitDone)
	out, _, _ := cliWith("", "secrets", "list", "sql")
	if strings.Count(out, "encrypted") != 2 {
		t.Errorf("list:\n%s", out)
	}
}

func TestCtrlCAtThePromptLeavesTheTerminalAsItWas(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	s := atTerminal(t, "secrets", "set", "sql", "postgres")
	s.expect("secret postgres of sql: ", "c4n4ry\x03")
	s.expect("interrupted", "")
	s.wantStatus(exitFailed)
	after, err := unix.IoctlGetTermios(int(s.terminal.Fd()), unix.TCGETS)
	if err != nil || after.Lflag != s.before.Lflag {
		t.Errorf("the terminal's flags are %#x, were %#x (%v)", after.Lflag, s.before.Lflag, err)
	}
}

func TestPassphraseAtATerminal(t *testing.T) {
	key, _, _ := sealedKey(t)
	s := atTerminal(t, "key", "public", key)
	s.expect("passphrase of "+key+": ", "horse\n")
	s.expect("-----END PUBLIC KEY-----", "")
	s.wantStatus(exitDone)
	s = atTerminal(t, "key", "public", key)
	s.expect("passphrase of "+key+": ", "donkey\n")
	s.expect("the passphrase is wrong", "")
	s.wantStatus(exitFailed)
}
