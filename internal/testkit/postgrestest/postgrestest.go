//go:build linux

// Package postgrestest runs this computer's PostgreSQL server for tests.
package postgrestest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
)

// Password is the password of the roles postgres and app.
const Password = "kept by the test's server"

// A Server is a PostgreSQL server with a temporary data folder.
type Server struct {
	Port    int
	Mode    string // sslmode of LogIn; empty: disable
	socket  string
	process *os.Process
	start   func(arguments ...string) error
	end     func()
}

// Signal sends a signal to the postmaster.
func (s *Server) Signal(signal os.Signal) error { return s.process.Signal(signal) }

// Start starts a server with these lines of postgresql.conf and this pg_hba.conf. enter moves a
// thread into the server's network namespace; nil keeps the current one. In addition to postgres,
// the role app exists and owns the database app. The server ends with the test, and with the test
// binary. Start skips the test without root or an installed server.
func Start(t *testing.T, port int, conf, hba string, enter func() error) *Server {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	account, err := user.Lookup("postgres")
	if len(bins) == 0 || err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and a PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	bin := slices.Max(bins)
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir: postgres must have access, and a socket's path has at most 107 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	must(t, os.Chown(dir, uid, gid))
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, name), args...)
		c.Dir, c.SysProcAttr = dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return c
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "-D", data, "--no-sync", "--auth=trust", "--username=postgres", "--locale=C.UTF-8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("local all all trust\n"+hba), 0o644))
	must(t, os.WriteFile(filepath.Join(data, "postgresql.conf"), []byte(conf), 0o644))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	t.Cleanup(func() { log.Close() })
	s := &Server{Port: port, socket: dir}
	s.start = func(arguments ...string) error {
		server := command("postgres", append([]string{"-D", data, "-k", dir, "-p", fmt.Sprint(port), "-c", "fsync=off", "-c", "logging_collector=off"}, arguments...)...)
		server.Stdout, server.Stderr = log, log
		if err := childtest.Start(server, enter); err != nil {
			return err
		}
		s.process = server.Process
		s.end = sync.OnceFunc(func() {
			server.Process.Signal(syscall.SIGQUIT)
			server.Wait()
		})
		t.Cleanup(s.end)
		for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			conn, err := s.connect("postgres", "", dir, nil)
			if err == nil {
				return conn.Close(context.Background())
			}
			if time.Now().After(deadline) {
				text, _ := os.ReadFile(log.Name())
				return fmt.Errorf("the server does not answer: %w\n%s", err, text)
			}
		}
	}
	must(t, s.start())
	for _, sql := range []string{"CREATE ROLE app LOGIN PASSWORD '" + escaped + "'", "CREATE DATABASE app OWNER app", "ALTER ROLE postgres PASSWORD '" + escaped + "'"} {
		s.Query(t, sql)
	}
	return s
}

// Restart stops the server as in a crash and starts it with additional arguments.
func (s *Server) Restart(t *testing.T, arguments ...string) {
	t.Helper()
	s.end()
	must(t, s.start(arguments...))
}

// Query runs a statement as the superuser through the socket, and returns the first value of its
// result.
func (s *Server) Query(t *testing.T, sql string) string {
	t.Helper()
	plain := *s
	plain.Mode = ""
	conn, err := plain.connect("postgres", "", s.socket, nil)
	must(t, err)
	defer conn.Close(context.Background())
	results, err := conn.Exec(context.Background(), sql).ReadAll()
	must(t, err)
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		return string(rows[0][0])
	}
	return ""
}

// escaped is Password as an SQL literal.
const escaped = "kept by the test''s server"

// LogIn logs in to the database with the role's name at host, through dial if it is not nil.
func (s *Server) LogIn(role, password, host string, dial pgconn.DialFunc) error {
	conn, err := s.connect(role, password, host, dial)
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

func (s *Server) connect(role, password, host string, dial pgconn.DialFunc) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 sslmode=" + cmp.Or(s.Mode, "disable") + " connect_timeout=60")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.User, config.Database, config.Password = host, uint16(s.Port), role, role, password
	config.Fallbacks = nil
	if dial != nil {
		config.DialFunc = dial
	}
	return pgconn.ConnectConfig(context.Background(), config)
}

// From returns a dial function that connects from one of this computer's addresses.
func From(address string) pgconn.DialFunc {
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
