package fleet

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// runnerVariable makes this test program act as sov-runner.
const runnerVariable = "SOV_TEST_RUNNER"

func TestMain(m *testing.M) {
	switch os.Getenv(runnerVariable) {
	case "":
		os.Exit(m.Run())
	case "guest":
		relayGuest()
	case "silent":
		os.Exit(0)
	default:
		fmt.Fprintln(os.Stderr, complains+os.Getenv(runnerVariable))
		os.Exit(1)
	}
}

// relayGuest acts as a guest. Its command prints its arguments and input, and exits with status 5.
func relayGuest() {
	conn := session.NewConn(os.Stdin, os.Stdout, os.Stdin.Close)
	first, err := conn.Receive()
	if err != nil {
		return
	}
	start, err := session.ParseStart(first.Payload)
	if err != nil {
		return
	}
	_ = conn.Send(session.Output, []byte(strings.Join(start.Command, " ")+"\n"))
	for {
		f, err := conn.Receive()
		if err != nil || f.Kind == session.InputEnd {
			break
		}
		_ = conn.Send(session.Output, f.Payload)
	}
	_ = conn.Send(session.Errors, []byte("\x1b[31mred"))
	_ = conn.SendJSON(session.End, session.Exit{Status: 5})
}

// TestSession: frames pass through the runner unchanged. If the runner fails, its error is
// returned.
func TestSession(t *testing.T) {
	for _, c := range []struct{ runner, out, want string }{
		{"guest", "cat -v\ntyped", ""},
		{"shell in sql: it does not run: start it first", "", "shell in sql: it does not run: start it first"},
		{"silent", "", session.ErrLost.Error()},
	} {
		root := phonepath.Root(t.TempDir())
		if err := os.MkdirAll(filepath.Dir(root.Runner()), 0o755); err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s'\n", runnerVariable, c.runner, os.Args[0])
		if err := os.WriteFile(root.Runner(), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		s := &Site{Phone: device.Local(root, nil), Out: io.Discard, ErrOut: io.Discard}
		var out, errOut strings.Builder
		exit, err := s.Session(t.Context(), "sql", session.Start{Command: []string{"cat", "-v"}}, session.Streams{In: strings.NewReader("typed"), Out: &out, Errors: &errOut})
		if c.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.runner, err, c.want)
			}
			continue
		}
		if err != nil || exit.Status != 5 || out.String() != c.out || errOut.String() != "\x1b[31mred" {
			t.Errorf("%s: %+v, %v: %q %q", c.runner, exit, err, out.String(), errOut.String())
		}
	}
}
