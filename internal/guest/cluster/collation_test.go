//go:build linux

package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A collated is a cluster with ICU's collations, whose server runs only inside Collations.
type collated struct {
	Collations
	t   *testing.T
	mu  sync.Mutex // protects out, which the server and Collations write
	out bytes.Buffer
}

// Write implements io.Writer.
func (c *collated) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func newCollated(t *testing.T) *collated {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	owner, err := lookUp("postgres")
	if len(bins) == 0 || err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and a PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir: postgres needs access
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	c := &collated{t: t}
	c.Collations = Collations{Data: filepath.Join(dir, "data"), Bin: bins[len(bins)-1], User: "postgres", Config: filepath.Join(dir, "postgresql.conf"), Image: "first", Output: c}
	hba := filepath.Join(dir, "pg_hba.conf")
	must(t, os.WriteFile(hba, []byte("local all all trust\n"), 0o644))
	must(t, os.WriteFile(c.Config, []byte("hba_file = '"+hba+"'\n"), 0o644))
	must(t, os.Chown(c.Config, int(owner.Uid), -1))
	c.run() // the cluster does not exist yet
	p := Preparation{Data: c.Data, Bin: c.Bin, User: "postgres", Output: c, InitArgs: []string{"--locale-provider=icu", "--icu-locale=und", "--locale=C.UTF-8", "--no-sync"}}
	must(t, p.Run(t.Context()))
	return c
}

// run runs Run and returns its output.
func (c *collated) run() string {
	c.t.Helper()
	c.out.Reset()
	if err := c.Run(c.t.Context()); err != nil {
		c.t.Fatalf("%v\n%s", err, c.out.String())
	}
	return c.out.String()
}

// sql runs statements as the superuser in a temporary server and returns the first value of the
// last statement.
func (c *collated) sql(database, text string) (value string) {
	c.t.Helper()
	err := c.withServer(c.t.Context(), func(socket string) error {
		ctx := c.t.Context()
		conn, err := connectTo(ctx, socket, database)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		results, err := conn.Exec(ctx, text).ReadAll()
		if err == nil && len(results) > 0 && len(results[len(results)-1].Rows) > 0 {
			value = string(results[len(results)-1].Rows[0][0])
		}
		return err
	})
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", text, err, c.out.String())
	}
	return value
}

// TestCollations changes the libraries of a cluster. Its indexes must be rebuilt before anything
// else, once, even after a power cut.
func TestCollations(t *testing.T) {
	c := newCollated(t)
	if said := c.run(); said != "" {
		t.Errorf("a new cluster is looked at: %s", said)
	}
	c.sql("postgres", "CREATE TABLE words (w text, d text COLLATE \"de-x-icu\"); INSERT INTO words SELECT md5(n::text), n FROM generate_series(1, 100) n;"+
		"CREATE INDEX of_database ON words (w); CREATE UNIQUE INDEX \"of 'Collation'\" ON words (d); CREATE INDEX of_expression ON words (lower(d)); CREATE INDEX of_none ON words (w COLLATE \"C\")")
	files := func() string {
		return c.sql("postgres", "SELECT string_agg(relname || ' ' || relfilenode, ', ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'of%'")
	}
	first := files()
	current := "SELECT count(*) FROM pg_database WHERE datcollversion <> pg_database_collation_actual_version(oid)"
	collations := "SELECT count(*) FROM pg_collation WHERE collversion <> pg_collation_actual_version(oid)"
	c.Image = "alike"
	if said := c.run(); strings.Contains(said, "rebuilt") || files() != first {
		t.Errorf("the indexes of a cluster whose versions are right are rebuilt: %s", said)
	}

	// The cluster's record of older libraries.
	c.sql("postgres", "UPDATE pg_collation SET collversion = '1.0' WHERE collprovider = 'i'")
	c.Image = "new"
	c.Bin, c.OldBin = t.TempDir(), c.Bin // of a machine before its upgrade
	if said := c.run(); !strings.Contains(said, "2 indexes of database postgres use collations that sort otherwise") {
		t.Errorf("it says %s", said)
	}
	second := files()
	for name, changed := range map[string]bool{"of_database": false, "of 'Collation'": true, "of_expression": true, "of_none": false} {
		if (indexFile(first, name) != indexFile(second, name)) != changed {
			t.Errorf("%s: was rebuilt: %t", name, !changed)
		}
	}
	if n := c.sql("postgres", collations); n != "0" {
		t.Errorf("%s collations keep the old version", n)
	}

	c.sql("postgres", "UPDATE pg_database SET datcollversion = '1.0'")
	c.Image = "ICU"
	cut, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Run(cut); err == nil {
		t.Fatal("it was not cut")
	}
	if n := c.sql("postgres", current); n == "0" {
		t.Fatal("it was not cut")
	}
	// CREATE DATABASE, such as for a new role of the recipe, fails with a template of another
	// collation version.
	err := c.withServer(t.Context(), func(socket string) error {
		_, err := Account{Role: "fresh", Database: "fresh"}.Ensure(t.Context(), socket)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "collation version mismatch") {
		t.Errorf("a new database before: %v", err)
	}
	if said := c.run(); !strings.Contains(said, "text in database postgres was sorted by version 1.0 of its collation") || !strings.Contains(said, "all indexes are rebuilt") {
		t.Errorf("it says %s", said)
	}
	if n := c.sql("postgres", current); n != "0" {
		t.Errorf("%s databases keep the old version", n)
	}
	if third := files(); indexFile(third, "of_database") == indexFile(second, "of_database") {
		t.Error("the database's own collation: nothing was rebuilt")
	}
	err = c.withServer(t.Context(), func(socket string) error {
		_, err := Account{Role: "fresh", Database: "fresh"}.Ensure(t.Context(), socket)
		return err
	})
	if err != nil {
		t.Errorf("a new role's database: %v", err)
	}
	if said := c.run(); said != "" {
		t.Errorf("a second time: %s", said)
	}
}

// TestCollationsOfABrokenCluster verifies that a server that does not start is an error, and that
// an incomplete cluster and one of another major version are skipped.
func TestCollationsOfABrokenCluster(t *testing.T) {
	c := newCollated(t)
	c.Image = "another"
	must(t, os.WriteFile(c.Config, []byte("shared_buffers = 'nonsense'\n"), 0o644))
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "start the server") {
		t.Errorf("a server that does not start: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(c.Data, "PG_VERSION"), []byte("11\n"), 0o600))
	if err := c.Run(t.Context()); err != nil {
		t.Errorf("another major version: %v", err)
	}
	must(t, errors.Join(os.RemoveAll(c.Data), os.Mkdir(c.Data, 0o700), os.Mkdir(filepath.Join(c.Data, "global"), 0o700),
		os.WriteFile(filepath.Join(c.Data, "global/pg_control"), []byte("half"), 0o600)))
	if err := c.Run(t.Context()); err != nil {
		t.Errorf("half a cluster: %v", err)
	}
}

// indexFile returns the file of an index in a list.
func indexFile(list, name string) string {
	for entry := range strings.SplitSeq(list, ", ") {
		if file, ok := strings.CutPrefix(entry, name+" "); ok {
			return file
		}
	}
	return ""
}
