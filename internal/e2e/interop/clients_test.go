package interop

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/certificate"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// A client connects to the URL of a database as a role. It returns "t" if the session is encrypted.
type client func(ctx context.Context, u *url.URL, password string) (string, error)

// TestVerifyFull connects third-party clients to a machine by the URL that sov prints. They verify
// its certificate and log in with passwords and from folders that a URL has to quote. Each of them
// refuses a server of another authority.
func TestVerifyFull(t *testing.T) {
	clients := map[string]client{"psql": psql, "psql with the password in the URL": psqlInline, "pgx": pgx, "node": node(t), "JDBC": jdbc(t)}
	maps.DeleteFunc(clients, func(name string, c client) bool { return c == nil })
	dir := filepath.Join(t.TempDir(), "a folder & 100% of @#?")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	store := authority.In(dir)
	var servers []*postgrestest.Server
	var found []authority.Client
	for i := range 2 {
		file := postgrestest.OwnFile(t, "server.pem", nil)
		keeper := &certificate.Keeper{
			Dir: filepath.Join(t.TempDir(), "tls"), Machine: "sql", Services: []guestspec.Service{{Name: "postgres", User: "postgres", Certificate: file}}, Now: time.Now,
			Names: func(context.Context) []string {
				return []string{"sql", "sql.internal", "localhost", "127.0.0.1", "::1"}
			},
			Reload: func(string) {}, Log: func(text string) { t.Log(text) },
		}
		if err := keeper.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		trusted, err := store.Check(fmt.Sprintf("ssh:root@phone-%d", i), "sql", keeper.Authority(), false)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, postgrestest.Start(t, freePort(t), "listen_addresses = '127.0.0.1'\nssl = on\n"+postgrestest.Certificate(file), "hostssl all all 127.0.0.0/8 scram-sha-256\n", nil))
		found = append(found, trusted)
	}
	for _, password := range []string{"plain", `@%#/:?&=+ '"\`, "é ü 100%25 日本"} {
		servers[0].SetPassword(t, "app", password)
		for name, connect := range clients {
			for _, host := range []string{"127.0.0.1", "localhost"} {
				u := &url.URL{Scheme: "postgresql", User: url.User("app"), Host: fmt.Sprintf("%s:%d", host, servers[0].Port), Path: "/app", RawQuery: found[0].Query(netip.AddrPort{}, nil)}
				if said, err := connect(t.Context(), u, password); err != nil || strings.TrimSpace(said) != "t" {
					t.Errorf("%s at %s with %q: %q, %v", name, host, password, said, err)
				}
			}
		}
	}
	servers[1].SetPassword(t, "app", "plain")
	for name, connect := range clients {
		u := &url.URL{Scheme: "postgresql", User: url.User("app"), Host: fmt.Sprintf("127.0.0.1:%d", servers[1].Port), Path: "/app", RawQuery: found[0].Query(netip.AddrPort{}, nil)}
		if said, err := connect(t.Context(), u, "plain"); err == nil || !strings.Contains(said+err.Error(), "certificate") && !strings.Contains(said+err.Error(), "certification path") {
			t.Errorf("%s takes a server of another authority: %q, %v", name, said, err)
		}
	}
}

func psql(ctx context.Context, u *url.URL, password string) (string, error) {
	c := exec.CommandContext(ctx, "psql", "-XAtwc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", u.String())
	c.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := c.CombinedOutput()
	return string(out), err
}

func psqlInline(ctx context.Context, u *url.URL, password string) (string, error) {
	return psql(ctx, withPassword(u, password), "wrong")
}

// withPassword returns a copy of u with the password in it, as in the settings of a program.
func withPassword(u *url.URL, password string) *url.URL {
	with := *u
	with.User = url.UserPassword(u.User.Username(), password)
	return &with
}

func pgx(ctx context.Context, u *url.URL, password string) (string, error) {
	conn, err := pgconn.Connect(ctx, withPassword(u, password).String())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").ReadAll()
	if err != nil {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// node installs pg for Node.js and returns a client that uses it, or nil without Node.js.
func node(t *testing.T) client {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Log("node's pg is not tested: apt install nodejs npm")
			return nil
		}
	}
	dir := t.TempDir()
	run(t, dir, "npm", "install", "--silent", "--no-audit", "--no-fund", "pg@8")
	script, err := filepath.Abs("testdata/clients/client.js")
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, u *url.URL, password string) (string, error) {
		c := exec.CommandContext(ctx, "node", script, withPassword(u, password).String())
		c.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(dir, "node_modules"))
		out, err := c.CombinedOutput()
		return string(out), err
	}
}

// jdbc compiles a program for Debian's JDBC driver and returns a client that runs it, or nil
// without the driver or a compiler.
func jdbc(t *testing.T) client {
	t.Helper()
	const driver = "/usr/share/java/postgresql.jar"
	_, err := os.Stat(driver)
	if _, missing := exec.LookPath("javac"); err != nil || missing != nil {
		t.Log("JDBC is not tested: apt install default-jdk-headless libpostgresql-jdbc-java")
		return nil
	}
	dir := t.TempDir()
	run(t, "", "javac", "-d", dir, "testdata/clients/Client.java")
	return func(ctx context.Context, u *url.URL, password string) (string, error) {
		address := "jdbc:" + (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}).String()
		out, err := exec.CommandContext(ctx, "java", "-cp", dir+":"+driver, "Client", address, u.User.Username(), password).CombinedOutput()
		return string(out), err
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
