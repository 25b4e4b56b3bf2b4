package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// execIn runs SQL in a database and returns the first value.
func (s server) execIn(t *testing.T, database, sql string) string {
	t.Helper()
	conn, err := connectTo(context.Background(), s.socket, database)
	must(t, err)
	defer conn.Close(context.Background())
	results, err := conn.Exec(context.Background(), sql).ReadAll()
	must(t, err)
	if last := results[len(results)-1]; len(last.Rows) > 0 {
		return string(last.Rows[0][0])
	}
	return ""
}

func (s server) names(t *testing.T) string {
	t.Helper()
	return s.exec(t, "SELECT string_agg(datname, '|' ORDER BY datname) FROM pg_database") + " " +
		s.exec(t, "SELECT string_agg(rolname, '|' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'")
}

// hinderSessions changes settings that prevent sessions from working, except sov's.
func (s server) hinderSessions(t *testing.T) {
	t.Helper()
	for _, setting := range []string{"default_transaction_read_only = on", "statement_timeout = 1", "lock_timeout = 1", "local_preload_libraries = 'nothing'", "session_preload_libraries = 'nothing'"} {
		s.exec(t, "ALTER SYSTEM SET "+setting)
	}
	s.exec(t, "SELECT pg_reload_conf()")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command(filepath.Join(s.bin, "psql"), "-XAtw", "-h", filepath.Dir(s.socket), "-p", fmt.Sprint(s.port), "-U", "postgres", "-c", "SELECT 1").CombinedOutput()
		if err != nil && strings.Contains(string(out), "nothing") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sessions are not hindered: %s", out)
		}
	}
}

const odd = `it's "odd" \ =x`

func TestBackupAndRestore(t *testing.T) {
	s := startServer(t)
	saved := Server{Socket: s.socket}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	q := quoteIdentifier
	s.hinderSessions(t)
	s.exec(t, "CREATE ROLE app LOGIN PASSWORD 'x'")
	s.exec(t, "CREATE ROLE "+q(odd)+"; GRANT app TO "+q(odd))
	s.exec(t, "CREATE DATABASE shop OWNER app LOCALE_PROVIDER icu ICU_LOCALE 'und' TEMPLATE template0")
	s.exec(t, "CREATE DATABASE "+q(odd))
	s.exec(t, `COMMENT ON DATABASE shop IS 'it''s a shop'; ALTER DATABASE shop SET search_path TO "my schema", public; ALTER DATABASE shop SET work_mem TO '5MB';
		ALTER ROLE app IN DATABASE shop SET app.mode TO 'a, b'; ALTER DATABASE shop CONNECTION LIMIT 7; REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO `+q(odd))
	s.execIn(t, "shop", `CREATE SCHEMA "my schema"; CREATE TABLE "my schema".t (b bytea); INSERT INTO "my schema".t VALUES ('\x00ff'); ALTER TABLE "my schema".t OWNER TO app; SELECT lo_from_bytea(4711, '\x0001')`)
	s.execIn(t, odd, "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g")
	s.exec(t, "CREATE TABLE here (t text); INSERT INTO here VALUES ('before')")
	properties := func() string {
		conn, err := connect(ctx, s.socket)
		must(t, err)
		defer conn.Close(ctx)
		all, err := databasesOf(ctx, conn)
		must(t, err)
		var b strings.Builder
		for _, d := range all {
			d.Size = 0
			b.WriteString(createSQL(d.Name, &d) + propertiesSQL(&d))
		}
		return b.String()
	}
	before := properties()
	var stream bytes.Buffer
	must(t, saved.Backup(ctx, &stream))

	archive := filepath.Join(t.TempDir(), "b.zip")
	_, err := backup.Create(archive, backup.Backup{Machine: "sql"}, backup.NewReader(bytes.NewReader(stream.Bytes())), backup.Layer{})
	must(t, err)
	a, err := backup.Open(archive, backup.Layer{})
	must(t, err)
	defer a.Close()
	if got := a.Databases(); !slices.Equal(got, []string{odd, "postgres", "shop"}) {
		t.Errorf("the backup holds %q", got)
	}
	var again bytes.Buffer
	must(t, a.Send(backup.NewWriter(&again), a.All()))

	s.execIn(t, "shop", `DROP TABLE "my schema".t`)
	for _, sql := range []string{"UPDATE here SET t = 'after'", "DROP DATABASE " + q(odd), "REVOKE ALL ON DATABASE shop FROM " + q(odd), "DROP ROLE " + q(odd), "CREATE DATABASE mine"} {
		s.exec(t, sql)
	}
	names := s.names(t)

	t.Run("cut off or damaged, nothing changes", func(t *testing.T) {
		whole := again.Bytes()
		damaged := slices.Clone(whole)
		damaged[len(damaged)/2] ^= 1
		for name, stream := range map[string][]byte{"no end": whole[:len(whole)-5], "half": whole[:len(whole)/2], "damaged": damaged, "empty": nil, "no backup": []byte("hello, world\n\n")} {
			if _, err := saved.Restore(ctx, bytes.NewReader(stream), func(string) {}); err == nil {
				t.Errorf("%s: it was taken", name)
			}
			if got := s.names(t); got != names {
				t.Errorf("%s: there are %s, want %s", name, got, names)
			}
			if got := s.exec(t, "SELECT t FROM here"); got != "after" {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
	t.Run("whole", func(t *testing.T) {
		client, err := connectTo(ctx, s.socket, "shop") // will be disconnected
		must(t, err)
		defer client.Close(ctx)
		did, err := saved.Restore(ctx, bytes.NewReader(again.Bytes()), func(string) {})
		must(t, err)
		if !slices.Equal(did.Databases, []string{odd, "postgres", "shop"}) || !slices.Equal(did.Roles, []string{odd}) || did.Warnings != nil {
			t.Errorf("%+v", did)
		}
		if got := s.execIn(t, "shop", `SELECT encode(b, 'hex') || encode(lo_get(4711), 'hex') || current_setting('work_mem') || current_setting('search_path') FROM t`); got != `00ff00015MB"my schema", public` {
			t.Errorf("shop: %s", got)
		}
		if got := s.execIn(t, odd, "SELECT count(*) FROM t") + s.exec(t, "SELECT t FROM here"); got != "1000before" {
			t.Errorf("%s", got)
		}
		s.exec(t, "DROP DATABASE mine")
		if after := properties(); after != before {
			t.Errorf("properties were\n%s\nand are\n%s", before, after)
		}
		if err := client.Ping(ctx); err == nil {
			t.Error("a client is still in the database that was replaced")
		}
	})
	t.Run("no room", func(t *testing.T) {
		var large bytes.Buffer
		w := backup.NewWriter(&large)
		must(t, w.Begin(backup.Part{Kind: backup.KindDatabase, Database: &backup.Database{Name: "shop", Size: 1 << 60}}))
		must(t, w.End())
		must(t, w.Close())
		if _, err := saved.Restore(ctx, &large, func(string) {}); err == nil || !strings.Contains(err.Error(), "MiB free") {
			t.Errorf("%v", err)
		}
	})
	t.Run("what fails is said in the stream", func(t *testing.T) {
		var stream bytes.Buffer
		if err := (Server{Socket: s.socket + "1"}).Backup(ctx, &stream); err == nil {
			t.Error("a server that is not there was backed up")
		}
		if _, _, err := backup.NewReader(&stream).Next(); err == nil || err == io.EOF || !strings.Contains(err.Error(), "back up") {
			t.Errorf("%v", err)
		}
	})
}

func TestMissingRoles(t *testing.T) {
	text := "\\restrict x\nSET client_encoding = 'UTF8';\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE \"a \"\"b\";\nALTER ROLE \"a \"\"b\" WITH LOGIN;\nGRANT postgres TO \"a \"\"b\";\n"
	sql, made := missingRoles(text, map[string]bool{"postgres": true})
	want := "SET client_encoding = 'UTF8';\nCREATE ROLE \"a \"\"b\";\nALTER ROLE \"a \"\"b\" WITH LOGIN;\nGRANT postgres TO \"a \"\"b\";\n"
	if sql != want || !slices.Equal(made, []string{`a "b`}) {
		t.Errorf("%q, %q", sql, made)
	}
}
