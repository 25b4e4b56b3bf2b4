package main

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestOddPasswordsThroughForward logs in with a password of special characters: with psql and the
// URL that forward prints, the password being in PGPASSWORD or in the URL, and with `sov psql`.
func TestOddPasswordsThroughForward(t *testing.T) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skipf("%v (apt install postgresql-client)", err)
	}
	const password = `@%#/: ?&=+'"\ é 100%25`
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	adb := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	adb.Connect(p.ServeADB(androidtest.ADBOptions{}))
	server := postgrestest.Start(t, 5432, "listen_addresses = '127.0.0.1'\n", "host all all 127.0.0.1/32 scram-sha-256\n", p.EnterNetwork)
	server.SetPassword(t, superuser, password)
	pretend(t, p, `case "$*" in *status*) echo "{\"crosvm_alive\": true}";; *) exec toybox nc 127.0.0.1 5432;; esac`)

	report, interrupt := startForward(t)
	inside, err := url.Parse(report.URL)
	if err != nil {
		t.Fatal(err)
	}
	inside.User = url.UserPassword(inside.User.Username(), password)
	for address, beside := range map[string]string{report.URL: password, inside.String(): "wrong"} {
		c := exec.Command("psql", "-XAtwc", "select 41 + 1", address)
		c.Env = append(os.Environ(), "PGPASSWORD="+beside)
		if answer, err := c.CombinedOutput(); err != nil || string(answer) != "42\n" {
			t.Errorf("psql %s: %v: %s", address, err, answer)
		}
	}
	interrupt()

	if _, errOut, status := cliWith(password, "secrets", "set", "sql", "postgres"); status != exitDone {
		t.Fatalf("status %d: %s", status, errOut)
	}
	if out, errOut, status := cli(t, "psql", "sql", "--", "-XAtwc", "select 41 + 1"); status != exitDone || out != "42\n" {
		t.Errorf("sov psql: status %d: %s%s", status, out, errOut)
	}
}

// startForward runs `sov forward sql` and returns its report once it listens. The returned function
// ends it as Ctrl-C does and checks its exit status.
func startForward(t *testing.T) (report forwardReport, interrupt func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	output, out := io.Pipe()
	ended := make(chan int, 1)
	var errOut strings.Builder
	go func() {
		ended <- execute(ctx, []string{"forward", "sql", "--json"}, strings.NewReader(""), out, &errOut)
	}()
	if err := json.NewDecoder(output).Decode(&report); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, output)
	return report, func() {
		t.Helper()
		cancel()
		if status := <-ended; status != exitDone {
			t.Errorf("status %d: %s", status, errOut.String())
		}
	}
}
