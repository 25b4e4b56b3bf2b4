//go:build linux

// Package postgrestest runs this computer's PostgreSQL server for tests.
package postgrestest

import (
	"cmp"
	"context"
	"errors"
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

// Password is that of the roles postgres and app.
const Password = "kept by the test's server"

// A Server is a PostgreSQL server in a folder of its own.
type Server struct {
	Port    int
	Mode    string // sslmode of LogIn; empty: disable
	socket  string
	process *os.Process
}

// Signal sends a signal to the postmaster.
func (s *Server) Signal(signal os.Signal) error { return s.process.Signal(signal) }

// Start starts a server with these lines of postgresql.conf and this pg_hba.conf, in the network
// namespace that enter moves a thread into; nil: this one. Besides postgres there is the role app,
// which owns the database app. The server ends with the test, and with the test binary. The test is
// skipped where there is no server, or without root.
func Start(t *testing.T, port int, conf, hba string, enter func() error) *Server {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	account, err := user.Lookup("postgres")
	if len(bins) == 0 || err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and a PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	bin := slices.Max(bins)
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir: postgres has to pass, and a socket's path is at most 107 bytes long
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
	server := command("postgres", "-D", data, "-k", dir, "-p", fmt.Sprint(port), "-c", "fsync=off", "-c", "logging_collector=off")
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	server.Stdout, server.Stderr = log, log
	must(t, childtest.Start(server, enter))
	ended := sync.OnceFunc(func() {
		server.Process.Signal(syscall.SIGQUIT)
		server.Wait()
		log.Close()
	})
	t.Cleanup(ended)
	s := &Server{Port: port, socket: dir, process: server.Process}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := s.connect("postgres", "", dir, nil)
		if err == nil {
			_, err = conn.Exec(context.Background(), "CREATE ROLE app LOGIN PASSWORD '"+escaped+"'").ReadAll()
			must(t, err)
			_, err = conn.Exec(context.Background(), "CREATE DATABASE app OWNER app").ReadAll()
			must(t, err)
			_, err = conn.Exec(context.Background(), "ALTER ROLE postgres PASSWORD '"+escaped+"'").ReadAll()
			must(t, errors.Join(err, conn.Close(context.Background())))
			return s
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not answer: %v\n%s", err, text)
		}
	}
}

// escaped is Password in an SQL literal.
const escaped = "kept by the test''s server"

// LogIn logs in to the database of the role's name at host, through dial if it is not nil.
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

// From returns a function that connects from one of this computer's addresses.
func From(address string) pgconn.DialFunc {
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
