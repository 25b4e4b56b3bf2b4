package controltest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// controlProgram compiles the control server once for all tests and returns its path.
var controlProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(sovtest.Shared, "control")
	compile := exec.Command("go", "build", "-o", program, "./control")
	compile.Dir = "../../testkit/tailnettest" // a separate module
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the control server: %w: %s", err, out)
	}
	return program, nil
})

// A Server is the control server of a test's tailnet: Tailscale's test server, with a DERP relay
// and a STUN server.
type Server struct {
	t    testing.TB
	URL  string // URL that nodes use
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Start runs the control server until the end of the test. command makes the command for the path
// of the program. dial connects from the test to addresses that nodes use.
func Start(t testing.TB, command func(program string) *exec.Cmd, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Server {
	t.Helper()
	program, err := controlProgram()
	if err != nil {
		t.Fatal(err)
	}
	said, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	server := command(program)
	server.Stdout = to
	StartDaemon(t, "control server", server)
	to.Close()
	var url string
	if _, err := fmt.Fscanln(bufio.NewReader(said), &url); err != nil {
		t.Fatalf("the control server says %q, %v", url, err)
	}
	return &Server{t, url, dial}
}

// StartDaemon runs a command until the end of the test, and logs its output if the test has failed.
func StartDaemon(t testing.TB, name string, command *exec.Cmd) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = log
	if command.Stdout == nil {
		command.Stdout = log
	}
	stdin, err := command.StdinPipe() // the control server exits when its input ends
	if err != nil {
		t.Fatal(err)
	}
	if err := childtest.Start(command, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		command.Process.Kill()
		command.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", name, text[max(0, len(text)-20_000):])
		}
		log.Close()
	})
}

// Do sends a request to the control server and returns the body of the response.
func (c *Server) Do(method, path string) []byte {
	c.t.Helper()
	request, err := http.NewRequest(method, c.URL+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.dial}}
	response, err := client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return body
}

// LetReturn lets nodes that have joined return without an auth key, as the real control server
// does. The test server otherwise requires the key.
func (c *Server) LetReturn() {
	c.t.Helper()
	c.Do(http.MethodPost, "/test/open")
}

// A Node is a machine in the control server's list.
type Node struct {
	Key, Machine, Hostname string
	Addresses, Tags        []string
}

// Machines returns the machines of the tailnet except "other".
func (c *Server) Machines() []Node {
	c.t.Helper()
	var list []Node
	if err := json.Unmarshal(c.Do(http.MethodGet, "/test/nodes"), &list); err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(m Node) bool { return m.Hostname == "other" })
}

// Joined returns the machine under test. It fails the test unless this machine is the only one,
// with the recipe's name and tags.
func (c *Server) Joined() Node {
	c.t.Helper()
	machines := c.Machines()
	if len(machines) != 1 || machines[0].Hostname != "sovereign-sql" || !slices.Equal(machines[0].Tags, []string{"tag:sql"}) {
		c.t.Fatalf("the tailnet has the machines %+v", machines)
	}
	return machines[0]
}

// WantSame fails the test unless the tailnet has exactly one machine under test, with the keys and
// addresses of before.
func (c *Server) WantSame(when string, before Node) {
	c.t.Helper()
	now := c.Machines()
	if len(now) != 1 || now[0].Key != before.Key || now[0].Machine != before.Machine || !slices.Equal(now[0].Addresses, before.Addresses) {
		c.t.Errorf("%s the tailnet has the machines %+v, before %+v", when, now, before)
	}
}

func Online(s guestapi.Tailnet) bool { return s.State == "Running" && s.Online }
