//go:build linux

package boot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/session"
)

// openSession opens a session at the endpoint from inside the guest's network.
func (v *boot) openSession() (*session.Conn, error) {
	v.t.Helper()
	conn, err := v.dial(v.t.Context(), "tcp", net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort)))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, "http://guest"+guestapi.PathSession, nil)
	must(v.t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", session.Protocol)
	must(v.t, request.Write(conn))
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	must(v.t, err)
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%d %s", response.StatusCode, text)
	}
	return session.NewConn(reader, conn, conn.Close), nil
}

// command runs a command in the guest and returns its exit and output.
func (v *boot) command(start session.Start, input string) (exit session.Exit, out, errOut string) {
	v.t.Helper()
	conn, err := v.openSession()
	must(v.t, err)
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	var stdout, stderr strings.Builder
	exit, err = session.Run(ctx, conn, start, session.Streams{In: strings.NewReader(input), Out: &stdout, Errors: &stderr})
	must(v.t, err)
	return exit, stdout.String(), stderr.String()
}

// A screen is the user's side of a terminal.
type screen struct {
	t    *testing.T
	keys *io.PipeWriter
	size chan session.Size
	done chan struct{}
	exit session.Exit // after done
	err  error

	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	close(s.more)
	s.more = make(chan struct{})
	return len(p), nil
}

// terminal starts a command on a terminal.
func (v *boot) terminal(ctx context.Context, start session.Start) *screen {
	v.t.Helper()
	conn, err := v.openSession()
	must(v.t, err)
	keyboard, keys := io.Pipe()
	s := &screen{t: v.t, keys: keys, size: make(chan session.Size), done: make(chan struct{}), more: make(chan struct{})}
	start.Terminal = &session.Size{Rows: 24, Columns: 80}
	start.Env = map[string]string{"TERM": "dumb", "PS1": "> "}
	go func() {
		defer close(s.done)
		s.exit, s.err = session.Run(ctx, conn, start, session.Streams{In: keyboard, Out: s, Errors: s, Sizes: s.size})
	}()
	return s
}

func (s *screen) typed(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) wait(text string) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		found, more, shown := strings.Contains(s.text.String(), text), s.more, s.text.String()
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-s.done:
			s.t.Fatalf("it ended without %q: %+v, %v\n%s", text, s.exit, s.err, shown)
		case <-timeout:
			s.t.Fatalf("no %q within %v:\n%s", text, patience, shown)
		}
	}
}

func (s *screen) wantEnd(status int) {
	s.t.Helper()
	select {
	case <-s.done:
		if s.err != nil || s.exit.Status != status {
			s.t.Errorf("it ended with %+v, %v; want status %d", s.exit, s.err, status)
		}
	case <-time.After(patience):
		s.t.Fatalf("it still runs after %v", patience)
	}
}

// shellBox returns a guest without services that accepts sessions.
func shellBox(t *testing.T) *box {
	t.Helper()
	b := newBox(t)
	b.spec.Endpoint.Shell = true
	return b
}

// TestSession runs commands in the guest, with pipes and with a terminal.
func TestSession(t *testing.T) {
	v := shellBox(t).boot(t)
	v.waitReady()
	v.testCommands(t)
	v.testTerminal(t)
	v.testLost(t)
	v.testLimit(t)
	for _, line := range []string{
		`session begins session=1 user=root caller=alice@laptop terminal=false command="sh -c echo out; echo oops >&2; cat; exit 7"`,
		`session ended session=1 how="exit status 7" status=7`,
	} {
		if !strings.Contains(v.text(), line) {
			t.Errorf("the log lacks %q", line)
		}
	}
	if text := v.text(); strings.Contains(text, "typed words") || strings.Contains(text, "s3cret") {
		t.Error("the log tells what was typed, or the environment")
	}
}

func (v *boot) testCommands(t *testing.T) {
	exit, out, errOut := v.command(session.Start{Command: []string{"sh", "-c", "echo out; echo oops >&2; cat; exit 7"}, Caller: "alice@laptop"}, "typed words")
	if exit.Status != 7 || out != "out\ntyped words" || errOut != "oops\n" {
		t.Errorf("%+v: %q %q", exit, out, errOut)
	}
	for name, c := range map[string]struct {
		start session.Start
		input string
		want  session.Exit
		out   string
	}{
		"another user":   {session.Start{Command: []string{"id", "-un"}, User: "nobody"}, "", session.Exit{}, "nobody\n"},
		"environment":    {session.Start{Command: []string{"sh", "-c", "echo $A $HOME"}, Env: map[string]string{"A": "s3cret"}}, "", session.Exit{}, "s3cret /root\n"},
		"a signal":       {session.Start{Command: []string{"sh", "-c", "kill -9 $$"}}, "", session.Exit{Status: 137}, ""},
		"no such":        {session.Start{Command: []string{"frobnicate"}}, "", session.Exit{Status: 127, Fault: "frobnicate: file does not exist in " + guestspec.DefaultPath}, ""},
		"not a program":  {session.Start{Command: []string{"/etc/passwd"}}, "", session.Exit{Status: 126, Fault: "start /etc/passwd: permission denied"}, ""},
		"no such user":   {session.Start{Command: []string{"id"}, User: "eve"}, "", session.Exit{Status: 126, Fault: "user: unknown user eve: does the recipe name it?"}, ""},
		"reads nothing":  {session.Start{Command: []string{"true"}}, strings.Repeat("x", 1<<20), session.Exit{}, ""},
		"leaves a child": {session.Start{Command: []string{"sh", "-c", "sleep 1000 & echo left"}}, "", session.Exit{}, "left\n"},
		"much":           {session.Start{Command: []string{"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y"}}, "", session.Exit{}, strings.Repeat("y", 3000000)},
	} {
		exit, out, _ := v.command(c.start, c.input)
		if exit != c.want || out != c.out {
			t.Errorf("%s: %+v with %d bytes %.100q, want %+v with %d", name, exit, len(out), out, c.want, len(c.out))
		}
	}
	if n := v.processes("sleep"); n != 0 {
		t.Errorf("%d processes of a session outlive it", n)
	}
}

// processes returns the number of a program's processes in the guest.
func (v *boot) processes(program string) (n int) {
	v.t.Helper()
	statuses, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*/comm", v.pid()))
	must(v.t, err)
	for _, path := range statuses {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == program {
			n++
		}
	}
	return n
}

func (v *boot) awaitNone(program string) {
	v.t.Helper()
	for deadline := time.Now().Add(patience); v.processes(program) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			v.t.Fatalf("%s still runs after %v", program, patience)
		}
	}
}

func (v *boot) testTerminal(t *testing.T) {
	s := v.terminal(t.Context(), session.Start{})
	s.typed("tty; stty size\n")
	s.wait("/dev/pts/")
	s.wait("24 80")
	s.size <- session.Size{Rows: 50, Columns: 132}
	s.typed("until stty size | grep '^50'; do :; done\n")
	s.wait("50 132")
	s.typed("echo $(id -un) works; sleep 1000\n")
	s.wait("root works")
	for deadline := time.Now().Add(patience); v.processes("sleep") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("sleep does not start")
		}
	}
	s.typed("\x03") // Ctrl-C
	v.awaitNone("sleep")
	s.typed("exit 5\n")
	s.wantEnd(5)
}

// testLost verifies that all processes of a session end with the client's connection.
func (v *boot) testLost(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := v.terminal(ctx, session.Start{Command: []string{"sh", "-c", "trap '' HUP TERM; sleep 1000; echo survived"}})
	for deadline := time.Now().Add(patience); v.processes("sleep") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("sleep does not start")
		}
	}
	cancel()
	<-s.done
	if !errors.Is(s.err, context.Canceled) {
		t.Errorf("%v", s.err)
	}
	v.awaitNone("sleep")
	v.waitLine(`how="the caller has disconnected"`)
}

// testLimit verifies that sessions beyond the limit are rejected, and that a closed session makes
// room for another.
func (v *boot) testLimit(t *testing.T) {
	var open []*session.Conn
	for {
		conn, err := v.openSession()
		if err != nil {
			if !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "sessions are open, which is the limit") {
				t.Errorf("refused: %v", err)
			}
			break
		}
		if open = append(open, conn); len(open) > 100 {
			t.Fatal("there is no limit")
		}
	}
	for _, conn := range open {
		conn.Close()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := v.openSession()
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the end of all: %v", err)
		}
	}
}

// TestSessionEndsAtShutdown verifies that an interactive shell that ignores SIGTERM does not delay
// the shutdown, and that its client learns why it ended.
func TestSessionEndsAtShutdown(t *testing.T) {
	v := shellBox(t).boot(t)
	v.waitReady()
	s := v.terminal(t.Context(), session.Start{Command: []string{"sh", "-c", "trap '' HUP TERM; echo deaf; sleep 1000"}})
	s.wait("deaf")
	if code, _, err := v.request(http.MethodPost, guestapi.PathShutdown, token, nil); code != http.StatusAccepted || err != nil {
		t.Fatalf("%d, %v", code, err)
	}
	asked := time.Now()
	v.wantPowerOff()
	if took := time.Since(asked); took > time.Minute {
		t.Errorf("the shutdown took %v", took)
	}
	<-s.done
	if s.err == nil && s.exit.Fault != "the machine shuts down" {
		t.Errorf("%+v", s.exit)
	}
	if strings.Contains(v.text(), "cut short") {
		t.Error("the shutdown was cut short")
	}
}

// TestNoSession verifies that an image whose recipe has no shell rejects all sessions.
func TestNoSession(t *testing.T) {
	v := newBox(t).boot(t)
	v.waitReady()
	if _, err := v.openSession(); err == nil || err.Error() != "404 "+guestapi.NoShell+"\n" {
		t.Errorf("%v", err)
	}
	if code, _, err := v.request(http.MethodPost, guestapi.PathSession, "no token", nil); code != http.StatusUnauthorized || err != nil {
		t.Errorf("without the token: %d, %v", code, err)
	}
}
