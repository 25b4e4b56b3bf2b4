package localvm

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestOddPasswordByURL: psql logs in to a real server with a machine's URL. The URL names a
// password file in a folder with special characters.
func TestOddPasswordByURL(t *testing.T) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skipf("%v (apt install postgresql-client)", err)
	}
	const password = `@%#/: ?&=+'"\ é 100%25`
	o := options(t, idle)
	o.Runtime = filepath.Join(t.TempDir(), "a folder & 100% of @#?+")
	if err := os.Mkdir(o.Runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Secrets = map[string]string{guestspec.ServicePostgres: password}
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server := postgrestest.Start(t, port, "listen_addresses = '127.0.0.1'\n", "host all all 127.0.0.1/32 scram-sha-256\n", nil)
	server.SetPassword(t, "postgres", password)
	u, err := url.Parse(vm.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) // no server runs in the machine
	if answer, err := exec.Command("psql", "-XAtwc", "select 41 + 1", u.String()).CombinedOutput(); err != nil || string(answer) != "42\n" {
		t.Errorf("psql %s: %v: %s", u, err, answer)
	}
}
