//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// postgresBin returns the directory of this computer's PostgreSQL programs.
func postgresBin(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	must(t, err)
	if len(found) == 0 {
		t.Skip("no PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	return found[len(found)-1]
}

// newPostgresBox returns a guest with PostgreSQL as in the sql recipe.
func newPostgresBox(t *testing.T) *box {
	t.Helper()
	bin := postgresBin(t)
	s := guestspec.Service{
		Name:        "postgres",
		Command:     []string{bin + "/postgres", "-D", "/data/postgres", "-c", "config_file=/etc/sov/postgres/postgresql.conf"},
		User:        "postgres",
		Directories: []guestspec.Directory{{Path: "/run/postgresql", Mode: "2775", User: "postgres"}},
		Prepare: []guestspec.Step{{
			Command: []string{"/init/sov-init", "postgres-collations", "--user=postgres", "--data=/data/postgres", "--bin=" + bin,
				"--config=/etc/sov/postgres/postgresql.conf", "--image=first"},
			User: "root", Unconfined: true,
		}, {
			Command: []string{"/init/sov-init", "postgres-prepare", "--user=postgres", "--data=/data/postgres", "--bin=" + bin,
				"--", "--locale-provider=icu", "--icu-locale=und", "--locale=C.UTF-8"},
			User: "root", Unconfined: true,
		}},
		Rights:      guestspec.Rights{Write: []string{"/data", "/data/postgres"}},
		Certificate: "/run/postgres-tls/server.pem",
		Tmpfs:       []guestspec.Tmpfs{{Path: "/data/postgres/pg_dynshmem", Mode: "0700", User: "postgres"}},
		Ready:       guestspec.Ready{Postgres: "/run/postgresql/.s.PGSQL.5432"},
		PostReady: []guestspec.Step{{
			Command: []string{"/init/sov-init", "postgres-role", "--socket=/run/postgresql/.s.PGSQL.5432", "--role=postgres"},
			Secret:  "postgres",
		}, {
			Command: []string{"/init/sov-init", "postgres-account", "--socket=/run/postgresql/.s.PGSQL.5432", "--role=app", "--database=shop"},
		}, {
			Command: []string{"/init/sov-init", "postgres-role", "--socket=/run/postgresql/.s.PGSQL.5432", "--role=app"},
			Secret:  "role-app",
		}, {
			Command: []string{"/init/sov-init", "postgres-extension", "--socket=/run/postgresql/.s.PGSQL.5432", "--name=plpgsql", "--database=shop"},
		}, {
			Command: []string{"/init/sov-init", "postgres-settled", "--socket=/run/postgresql/.s.PGSQL.5432", "--data=/data/postgres"},
			User:    "root", Unconfined: true,
		}},
		Stop: guestspec.Stop{Signal: "SIGINT", Timeout: guestspec.Duration(30 * time.Second)},
	}
	b := newBox(t, s)
	must(t, os.MkdirAll(filepath.Join(b.root, "etc/sov/postgres"), 0o755))
	b.write(t, "etc/sov/postgres/postgresql.conf", `
listen_addresses = '*'
unix_socket_directories = '/run/postgresql'
dynamic_shared_memory_type = mmap
password_encryption = scram-sha-256
hba_file = '/etc/sov/postgres/pg_hba.conf'
ident_file = '/etc/sov/postgres/pg_ident.conf'
log_statement = all
ssl = on
ssl_cert_file = '/run/postgres-tls/server.pem'
ssl_key_file = '/run/postgres-tls/server.pem'
shared_buffers = 16MB
`)
	b.write(t, "etc/sov/postgres/pg_hba.conf", "local all all peer map=sov\nhost all all all scram-sha-256\n")
	b.write(t, "etc/sov/postgres/pg_ident.conf", "sov postgres postgres\nsov root postgres\n")
	return b
}

// query runs SQL on the guest's server over TCP as postgres with this password.
func (v *boot) query(password, sql string) (string, error) {
	return v.queryAs("user=postgres dbname=postgres", password, sql)
}

func (v *boot) queryAs(who, password, sql string) (string, error) {
	return v.ask("sslmode=disable "+who, password, sql)
}

// ask runs SQL on the guest's server with these connection parameters.
func (v *boot) ask(parameters, password, sql string) (string, error) {
	config, err := pgconn.ParseConfig("host=" + guestAddress + " " + parameters)
	if err != nil {
		return "", err
	}
	config.Password, config.DialFunc = password, v.dial
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{guestAddress}, nil }
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	var rows []string
	for _, row := range results[len(results)-1].Rows {
		rows = append(rows, string(row[0]))
	}
	return strings.Join(rows, "\n"), nil
}

func TestPostgres(t *testing.T) {
	b := newPostgresBox(t)
	const first, second = "c4n4ry 'quoted' \"twice\" \\ \n and é ﬁ ٣", "c4n4ry of another kind"
	b.config.Secrets = map[string]string{"postgres": first}

	t.Run("first start", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		v.waitLine("out postgres: a new cluster was made in /data/postgres")
		for sql, want := range map[string]string{
			"SHOW dynamic_shared_memory_type": "mmap",
			"SHOW fsync":                      "on",
			"SHOW data_checksums":             "on",
			"SELECT datlocprovider FROM pg_database WHERE datname = 'postgres'":                        "i",
			"SELECT rolpassword LIKE 'SCRAM-SHA-256_4096:%' FROM pg_authid WHERE rolname = 'postgres'": "t",
		} {
			if got, err := v.query(first, sql); err != nil || got != want {
				t.Errorf("%s: %q, %v, want %q", sql, got, err, want)
			}
		}
		if _, err := v.query("wrong", "SELECT 1"); err == nil {
			t.Error("a wrong password is good enough")
		}
		checkTLS(t, b, v, first)
		if got, _ := v.run("/usr/bin/stat", "-fc", "%T", "/data/postgres/pg_dynshmem"); got != "tmpfs" {
			t.Errorf("pg_dynshmem is on %s", got)
		}
		if _, err := v.query(first, "CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000); "+
			"UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres'"); err != nil { // as if ICU had changed
			t.Error(err)
		}
		v.shutDown()
		v.waitLine("database system is shut down")
		if strings.Contains(v.text(), "could not receive data from client") {
			t.Error("the readiness probe causes an error in the server's log")
		}
		wantNoSecret(t, v)
		b.wantCleanDisk(t)
	})

	t.Run("second start with another password, of an image that sorts otherwise", func(t *testing.T) {
		b.config.Secrets["postgres"] = second
		collations := b.spec.Services[0].Prepare[0].Command
		collations[len(collations)-1] = "--image=second"
		v := b.boot(t)
		v.waitReady()
		v.waitLine("out postgres: text in database postgres was sorted by version 1.0 of its collation")
		if got, err := v.query(second, "SELECT count(*) FROM pg_database WHERE datcollversion <> pg_database_collation_actual_version(oid)"); err != nil || got != "0" {
			t.Errorf("%s databases keep the old version, %v", got, err)
		}
		v.waitLine("the password of role postgres was set")
		if got, err := v.query(second, "SELECT count(*) FROM kept"); err != nil || got != "1000" {
			t.Errorf("the table has %q rows, %v", got, err)
		}
		if _, err := v.query(first, "SELECT 1"); err == nil {
			t.Error("the old password still opens")
		}
		v.shutDown()
		wantNoSecret(t, v)
	})

	t.Run("power cut and a stale postmaster.pid", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		if strings.Contains(v.text(), "the password of role postgres was set") {
			t.Error("a password that has not changed was set anew")
		}
		if _, err := v.query(second, "INSERT INTO kept VALUES (0)"); err != nil {
			t.Error(err)
		}
		// Killing PID 1 kills all other processes at once. The pid file remains, with a process ID
		// that belongs to another process after the next boot.
		must(t, v.cmd.Process.Kill())
		v.wantEnd(syscall.SIGKILL)
		v = b.boot(t)
		v.waitReady()
		v.waitLine("the postmaster.pid of a server that was not shut down was removed")
		v.waitLine("database system was not properly shut down; automatic recovery in progress")
		if got, err := v.query(second, "SELECT count(*) FROM kept"); err != nil || got != "1001" {
			t.Errorf("the table has %q rows, %v", got, err)
		}
		v.shutDown()
	})

	t.Run("every process killed in turn", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		pids, err := v.run("/usr/bin/pgrep", "-u", "postgres")
		must(t, err)
		for pid := range strings.FieldsSeq(pids) {
			v.run("/bin/kill", "-9", pid) // it may have ended because of an earlier kill
			v.waitService("postgres", "ready", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
			waitQuery(t, v, second)
		}
		v.shutDown()
	})

	t.Run("another major version is left alone", func(t *testing.T) {
		withData(t, b, func(data string) {
			must(t, os.WriteFile(filepath.Join(data, "postgres/PG_VERSION"), []byte("11\n"), 0o600))
		})
		before := digest(t, b)
		v := b.boot(t)
		s := v.waitService("postgres", "failed", func(s guestapi.Service) bool { return s.State == guestapi.StateFailed })
		if !strings.Contains(s.Reason, "/data/postgres holds a cluster of PostgreSQL 11 and this image brings PostgreSQL") {
			t.Errorf("reason: %q", s.Reason)
		}
		if p := v.status().Postgres; p == nil || p.Ready || !strings.HasPrefix(p.Fault, "the server is failed: /data/postgres holds") {
			t.Errorf("status: %+v", p)
		}
		v.shutDown()
		if after := digest(t, b); after != before {
			t.Errorf("the cluster was touched:\n%s\n%s", before, after)
		}
	})

	t.Run("something else is left alone", func(t *testing.T) {
		withData(t, b, func(data string) { must(t, os.Remove(filepath.Join(data, "postgres/PG_VERSION"))) })
		v := b.boot(t)
		s := v.waitService("postgres", "failed", func(s guestapi.Service) bool { return s.State == guestapi.StateFailed })
		if !strings.Contains(s.Reason, "holds no PostgreSQL cluster") {
			t.Errorf("reason: %q", s.Reason)
		}
		v.shutDown()
	})
}

// checkTLS logs in as a client that trusts the machine's authority, by address and by name, and
// checks who can read the key. After the clock passes the certificate's expiry, the certificate
// must be replaced.
func checkTLS(t *testing.T, b *box, v *boot, password string) {
	t.Helper()
	authority := v.status().Postgres.Authority
	root := filepath.Join(t.TempDir(), "authority.crt")
	must(t, os.WriteFile(root, []byte(authority), 0o644))
	const sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"
	got, err := v.ask("sslmode=verify-full sslrootcert="+root+" user=postgres dbname=postgres", password, sql)
	if err != nil || !strings.HasPrefix(got, "TLSv1.") {
		t.Errorf("verify-full: %q, %v", got, err)
	}
	for file, want := range map[string]string{
		"/data/.sov-tls": "root 700", "/data/.sov-tls/authority.pem": "root 600", "/run/postgres-tls/server.pem": "postgres 600",
	} {
		if got, _ := v.run("/usr/bin/stat", "-c", "%U %a", file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	// The server can access its certificate, but not the authority.
	got, err = v.query(password, "CREATE TEMPORARY TABLE f (x text); COPY f FROM PROGRAM 'ls /run/postgres-tls /data/.sov-tls 2>&1; true'; SELECT string_agg(x, ' ') FROM f")
	if err != nil || !strings.Contains(got, "server.pem") || strings.Contains(got, "authority") {
		t.Errorf("the server sees %q, %v", got, err)
	}
}

func TestInterruptedFirstStartStartsOver(t *testing.T) {
	b := newPostgresBox(t)
	b.config.Secrets = map[string]string{"postgres": "c4n4ry"}
	for inTheMiddle := false; !inTheMiddle; { // initdb may have finished before its line is read
		v := b.boot(t)
		v.waitLine("out postgres: creating configuration files")
		must(t, v.cmd.Process.Kill())
		v.wantEnd(syscall.SIGKILL)
		withData(t, b, func(data string) {
			if _, err := os.Stat(filepath.Join(data, "postgres/PG_VERSION")); err == nil {
				if _, err := os.Stat(filepath.Join(data, "postgres.new")); err == nil {
					t.Fatal("half a cluster has the name of a whole one")
				}
				must(t, os.RemoveAll(filepath.Join(data, "postgres")))
				return
			}
			inTheMiddle = true
			if _, err := os.Stat(filepath.Join(data, "postgres.new")); err != nil {
				t.Errorf("initdb was not in the middle: %v", err)
			}
			if _, err := os.Stat(filepath.Join(data, "postgres")); err == nil {
				t.Error("half a cluster has the name of a whole one")
			}
		})
	}
	v := b.boot(t)
	v.waitReady()
	if got, err := v.query("c4n4ry", "SELECT 1"); err != nil || got != "1" {
		t.Errorf("%q, %v", got, err)
	}
	v.shutDown()
	withData(t, b, func(data string) {
		if _, err := os.Stat(filepath.Join(data, "postgres.new")); err == nil {
			t.Error("postgres.new is still there")
		}
	})
}

// TestAccountsOfTheRecipe verifies that each start creates the recipe's role and database if they
// are missing, and changes the role's password only if the config disk has another one.
func TestAccountsOfTheRecipe(t *testing.T) {
	b := newPostgresBox(t)
	pooled := withPooler(t, b)
	first, second := "c4n4ry 'quoted' \"twice\" \\ \n é "+strings.Repeat("ü", 500), "c4n4ry of another kind"
	ask := func(v *boot, password string) (string, error) {
		return v.queryAs("user=app dbname=shop", password, "SELECT current_user || ' in ' || current_database()")
	}
	v := b.boot(t) // without any secret: the role exists and has no password
	v.waitReady()
	v.waitLine("out postgres: role app was made")
	v.waitLine("out postgres: database shop was made")
	if _, err := ask(v, "c4n4ry"); err == nil {
		t.Error("a role without a password may log in")
	}
	if s := v.status().Postgres; s == nil || !s.Ready || s.Version == "" || s.Connections != 0 {
		t.Errorf("status: %+v", s)
	}
	v.shutDown()
	for _, password := range []string{first, second} {
		b.config.Secrets = map[string]string{"role-app": password}
		v = b.boot(t)
		v.waitReady()
		v.waitLine("the password of role app was set")
		if got, err := v.queryAs("port=6432 user=app dbname=shop", password, "SELECT current_user"); pooled && (err != nil || got != "app") {
			t.Errorf("through the pooler: %q, %v", got, err)
		}
		if got, err := ask(v, password); err != nil || got != "app in shop" {
			t.Errorf("%q, %v", got, err)
		}
		v.shutDown()
		wantNoSecret(t, v)
	}
	v = b.boot(t)
	v.waitReady()
	if _, err := ask(v, first); err == nil {
		t.Error("the old password still opens")
	}
	v.shutDown()
	for _, line := range []string{"was set", "was made", "was changed"} {
		if strings.Contains(v.text(), line) {
			t.Errorf("something that %s, and nothing had to", line)
		}
	}
}

// withPooler adds a pooler to the box, as stages/postgres does, and reports whether this computer
// has one.
func withPooler(t *testing.T, b *box) bool {
	t.Helper()
	const program = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(program); err != nil {
		return false
	}
	b.write(t, "etc/passwd", "root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/data/postgres:/bin/sh\npgbouncer:x:6432:6432::/:/sbin/nologin\nnobody:x:65534:65534::/:/bin/false\n")
	b.write(t, "etc/group", "root:x:0:\npostgres:x:70:\npgbouncer:x:6432:\nnogroup:x:65534:\n")
	b.write(t, "etc/sov/postgres/pg_hba.conf", "local all postgres peer map=sov\nlocal all pgbouncer peer map=sov\nlocal all all scram-sha-256\nhost all all all scram-sha-256\n")
	b.write(t, "etc/sov/postgres/pg_ident.conf", "sov postgres postgres\nsov root postgres\nsov pgbouncer pgbouncer\n")
	must(t, os.MkdirAll(filepath.Join(b.root, "etc/sov/pgbouncer"), 0o755))
	b.write(t, "etc/sov/pgbouncer/pg_hba.conf", "host all pgbouncer 0.0.0.0/0 reject\nhost all all 0.0.0.0/0 scram-sha-256\n")
	b.write(t, "etc/sov/pgbouncer/pgbouncer.ini", `[databases]
* = host=/run/postgresql port=5432
[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir =
logfile =
auth_type = hba
auth_hba_file = /etc/sov/pgbouncer/pg_hba.conf
auth_user = pgbouncer
auth_query = SELECT usename, passwd FROM pgbouncer.lookup($1)
pool_mode = transaction
client_tls_sslmode = allow
client_tls_cert_file = /run/pgbouncer-tls/server.pem
client_tls_key_file = /run/pgbouncer-tls/server.pem
client_tls_ca_file = /run/pgbouncer-tls/server.pem
`)
	server := &b.spec.Services[0]
	server.PostReady = append(server.PostReady, guestspec.Step{
		Command: []string{"/init/sov-init", "postgres-pooler", "--socket=/run/postgresql/.s.PGSQL.5432", "--role=pgbouncer", "--database=shop"},
	})
	b.spec.Services = append(b.spec.Services, guestspec.Service{
		Name: "pgbouncer", Command: []string{program, "/etc/sov/pgbouncer/pgbouncer.ini"}, User: "pgbouncer", After: []string{"postgres"},
		Certificate: "/run/pgbouncer-tls/server.pem", Ready: guestspec.Ready{TCP: "127.0.0.1:6432"},
	})
	return true
}

// waitQuery queries until the server answers, which may be replaying its log.
func waitQuery(t *testing.T, v *boot, password string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got, err := v.query(password, "SELECT count(*) FROM kept")
		if err == nil && got == "1001" {
			return
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "28P01" || time.Now().After(deadline) {
			t.Fatalf("query: %q, %v", got, err)
		}
	}
}

// wantNoSecret fails the test if a password is in the guest's log.
func wantNoSecret(t *testing.T, v *boot) {
	t.Helper()
	if log := v.text(); strings.Contains(log, "c4n4ry") || strings.Contains(log, "SCRAM-SHA-256$") {
		t.Error("the password or its verifier is in the log")
	}
}

// withData calls fn with the mounted data disk of a guest that does not run.
func withData(t *testing.T, b *box, fn func(data string)) {
	t.Helper()
	mnt, unmount := mounttest.Loop(t, b.data, "")
	defer unmount()
	fn(mnt)
}

// digest returns a digest of the cluster's names, modes, times and contents.
func digest(t *testing.T, b *box) (sum string) {
	t.Helper()
	withData(t, b, func(data string) {
		out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf(
			"cd %s && { find postgres -printf '%%p %%M %%U %%T@\\n' | sort; find postgres -type f -print0 | sort -z | xargs -0 cat; } | sha256sum", data)).CombinedOutput()
		must(t, err)
		sum = string(out)
	})
	return sum
}
