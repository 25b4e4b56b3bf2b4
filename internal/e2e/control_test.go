package e2e

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

	"github.com/sovereign-sql/sov/internal/guestapi"
)

// controlProgram compiles the control server once for all tests.
var controlProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(shared, "control")
	compile := exec.Command("go", "build", "-o", program, "./control")
	compile.Dir = "../tailnettest" // a module of its own
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the control server: %w: %s", err, out)
	}
	return program, nil
})

// A controlServer is the one of a tailnet of the test's own: Tailscale's stand-in for tests, with a DERP relay and a STUN
// server.
type controlServer struct {
	t    testing.TB
	url  string // by which nodes reach it
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// startControl runs the control server until the test's end. The command is made of its program; dial leads from the
// test to what nodes reach at its URL.
func startControl(t testing.TB, command func(program string) *exec.Cmd, dial func(ctx context.Context, network, address string) (net.Conn, error)) *controlServer {
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
	startDaemon(t, "control server", server)
	to.Close()
	var url string
	if _, err := fmt.Fscanln(bufio.NewReader(said), &url); err != nil {
		t.Fatalf("the control server says %q, %v", url, err)
	}
	return &controlServer{t, url, dial}
}

// startDaemon runs a command until the test's end, and shows what it said where the test failed.
func startDaemon(t testing.TB, name string, command *exec.Cmd) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = log
	if command.Stdout == nil {
		command.Stdout = log
	}
	stdin, err := command.StdinPipe() // its end is the control server's
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
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

// do asks the control server, or tells it something.
func (c *controlServer) do(method, path string) []byte {
	c.t.Helper()
	request, err := http.NewRequest(method, c.url+path, nil)
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

// letReturn lets nodes that have joined return without an auth key, as the real control server does; the stand-in would
// ask for one.
func (c *controlServer) letReturn() {
	c.t.Helper()
	c.do(http.MethodPost, "/test/open")
}

// A node is a machine as the control server knows it.
type node struct {
	Key, Machine, Hostname string
	Addresses, Tags        []string
}

// machines are the control server's, without the other one.
func (c *controlServer) machines() []node {
	c.t.Helper()
	var list []node
	if err := json.Unmarshal(c.do(http.MethodGet, "/test/nodes"), &list); err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(m node) bool { return m.Hostname == "other" })
}

// joined returns the one machine under test, which has to be there as the recipe says.
func (c *controlServer) joined() node {
	c.t.Helper()
	machines := c.machines()
	if len(machines) != 1 || machines[0].Hostname != "sovereign-sql" || !slices.Equal(machines[0].Tags, []string{"tag:sql"}) {
		c.t.Fatalf("the tailnet has the machines %+v", machines)
	}
	return machines[0]
}

// wantSame fails unless the tailnet has one machine under test, and it is the one from before.
func (c *controlServer) wantSame(when string, before node) {
	c.t.Helper()
	now := c.machines()
	if len(now) != 1 || now[0].Key != before.Key || now[0].Machine != before.Machine || !slices.Equal(now[0].Addresses, before.Addresses) {
		c.t.Errorf("%s the tailnet has the machines %+v, before %+v", when, now, before)
	}
}

// onTailnet builds the sql recipe for that control server, with more of its text replaced.
func onTailnet(arch, name, url string, replace ...string) (string, outcome) {
	return variant(arch, name, append(replace,
		"hostname: sovereign-sql\n\npostgres:", "hostname: sovereign-sql\n  login_server: "+url+"\n  tags: [tag:sql]\n\npostgres:")...)
}

func online(s guestapi.Tailnet) bool { return s.State == "Running" && s.Online }
