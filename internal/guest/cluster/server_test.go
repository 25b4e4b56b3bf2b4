//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
)

// passwords are difficult in various ways. Neighbours differ after they were prepared.
var passwords = []string{
	"pencil", "with 'quotes' and \"more\"", `back\slash`, "new\nline\ttab", "é", "ﬁ ligature", "e\u0301", "\u00aa", "\u00aa\U0001f600",
	"@%#/:", "p@ss%20w#rd/:?&=+", "no\u00adthing", "\u06271", "\u0627\u0628", "a\u00a0b", "日本語", "\u2168", "\u0007 bell", "$1 %s {} ;--", strings.Repeat("long é", 170),
}

// TestSetPasswordAgainstServer logs in through libpq with passwords that SetPassword set, and
// checks that matches accepts the server's own verifiers.
func TestSetPasswordAgainstServer(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := SetPassword(ctx, s.socket, "nobody's \"role\"", "x"); err == nil || !strings.Contains(err.Error(), "no such role") {
		t.Errorf("an unknown role: %v", err)
	}
	if _, err := SetPassword(ctx, s.socket, "app", ""); err == nil {
		t.Error("an empty password was set")
	}
	const role = "app \"quoted\""
	s.exec(t, "CREATE ROLE app LOGIN; CREATE ROLE "+quoteIdentifier(role)+" LOGIN")
	for _, password := range passwords {
		changed, err := SetPassword(ctx, s.socket, role, password)
		if err != nil || !changed {
			t.Errorf("%q: changed %t, %v", password, changed, err)
		}
		if changed, err := SetPassword(ctx, s.socket, role, password); err != nil || changed {
			t.Errorf("%q again: changed %t, %v", password, changed, err)
		}
		if out, err := s.logIn(role, password); err != nil {
			t.Errorf("libpq cannot log in with %q: %v\n%s", password, err, out)
		}
		if out, err := s.logInByURL(role, password); err != nil {
			t.Errorf("libpq cannot log in by a URL with %q: %v\n%s", password, err, out)
		}
		if _, err := s.logIn(role, password+"x"); err == nil {
			t.Errorf("libpq can log in with another password than %q", password)
		}
		s.exec(t, "ALTER ROLE app PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
		if stored := s.exec(t, "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"); !matches(stored, password) {
			t.Errorf("the server's verifier of %q does not match", password)
		}
	}
}

// A server is a PostgreSQL server in a temporary folder that accepts every local user as its
// superuser.
type server struct {
	bin, socket string
	port        int
	preparation Preparation
	process     *os.Process
}

func startServer(t *testing.T) server {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	owner, err := lookUp("postgres")
	if len(bins) == 0 || err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and a PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	// Not t.TempDir: postgres needs access, and a socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "pg")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	s := server{bin: bins[len(bins)-1], port: freePort(t)}
	s.socket = filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", s.port))
	p := Preparation{Data: filepath.Join(dir, "data"), Bin: s.bin, User: "postgres", Output: os.Stderr, Starts: filepath.Join(dir, "starts"),
		InitArgs: []string{"--locale=C.UTF-8", "--auth-local=trust", "--no-sync"}}
	s.preparation = p
	s.process = s.start(t)
	return s
}

// start prepares the cluster and starts the server until the end of the test.
func (s server) start(t *testing.T) *os.Process {
	t.Helper()
	must(t, s.preparation.Run(context.Background()))
	owner, err := lookUp("postgres")
	must(t, err)
	dir := filepath.Dir(s.socket)
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.preparation.Data, "-k", dir, "-p", fmt.Sprint(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	cmd.Dir = dir
	must(t, childtest.Start(cmd, nil))
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGQUIT)
		cmd.Wait()
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := connect(context.Background(), s.socket)
		if err == nil {
			conn.Close(context.Background())
			return cmd.Process
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// exec runs SQL as the superuser and returns the first value.
func (s server) exec(t *testing.T, sql string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := connect(ctx, s.socket)
	must(t, err)
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	must(t, err)
	if last := results[len(results)-1]; len(last.Rows) > 0 {
		return string(last.Rows[0][0])
	}
	return ""
}

// logInByURL connects through libpq with a URL that contains the password, such as sov prints.
func (s server) logInByURL(role, password string) (string, error) {
	address := url.URL{Scheme: "postgresql", User: url.UserPassword(role, password), Host: fmt.Sprintf("127.0.0.1:%d", s.port), Path: "/postgres"}
	out, err := exec.Command(filepath.Join(s.bin, "psql"), "-XAtw", "-c", "SELECT 1", address.String()).CombinedOutput()
	return string(out), err
}

// logIn connects through libpq over TCP with a password.
func (s server) logIn(role, password string) (string, error) {
	cmd := exec.Command(filepath.Join(s.bin, "psql"), "-XAtw", "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-U", role, "-d", "postgres", "-c", "SELECT 1")
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGCLIENTENCODING=UTF8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestTimeZoneIsUTC verifies that initdb uses the given time zone, not the computer's.
func TestTimeZoneIsUTC(t *testing.T) {
	t.Setenv("TZ", "Asia/Tokyo")
	s := startServer(t)
	for _, setting := range []string{"timezone", "log_timezone"} {
		if got := s.exec(t, "SHOW "+setting); got != "UTC" {
			t.Errorf("%s is %s, want UTC", setting, got)
		}
	}
}

func TestPreparationOfAnotherCluster(t *testing.T) {
	s := startServer(t)
	data := filepath.Join(filepath.Dir(s.socket), "data")
	// The server runs: its pid file is not stale.
	p := Preparation{Data: data, Bin: s.bin, User: "postgres", Output: os.Stderr, Starts: filepath.Join(filepath.Dir(data), "starts")}
	if err := p.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "still works in") {
		t.Errorf("beside a living server: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err != nil {
		t.Error(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
