//go:build linux

package boot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestUpgradeAtTheEndpoint boots a guest with PostgreSQL 15, then a version with 15 and 17, which
// uses 15 until an upgrade is requested, and finally a version with only 17 and pgvector.
func TestUpgradeAtTheEndpoint(t *testing.T) {
	root := postgrestest.Root(t)
	b := newPostgresBox(t)
	b.usr = filepath.Join(root, "usr")
	for _, program := range []string{"bin/busybox", "bin/sh", "sbin/e2fsck"} { // the box has them in /usr
		name := filepath.Join(b.usr, program)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if err := os.Rename(filepath.Join(root, program), name); err != nil {
			t.Fatal(err)
		}
	}
	const password = "c4n4ry"
	b.config.Secrets = map[string]string{"postgres": password}
	plain := b.spec.Services[0]
	with := func(bin, old string) {
		s := plain
		s.Command = slices.Clone(plain.Command)
		s.Command[0] = bin + "/postgres"
		prepare := []string{"/init/sov-init", "postgres-prepare", "--user=postgres", "--data=/data/postgres", "--bin=" + bin}
		collations := []string{"/init/sov-init", "postgres-collations", "--user=postgres", "--data=/data/postgres", "--bin=" + bin,
			"--config=/etc/sov/postgres/postgresql.conf", "--image=" + bin + old} // each version has other libraries
		s.Upgrade = []string{"/init/sov-init", guestspec.StepUpgrade, "--user=postgres", "--data=/data/postgres", "--bin=" + bin,
			"--config=/etc/sov/postgres/postgresql.conf", "--sockets=/run/postgresql"}
		if old != "" {
			prepare, s.Upgrade, collations = append(prepare, "--old-bin="+old), append(s.Upgrade, "--old-bin="+old), append(collations, "--old-bin="+old)
			s.Command = append([]string{"/init/sov-init", "postgres-serve", "--data=/data/postgres", "--bin=" + bin, "--old-bin=" + old, "--"}, s.Command[1:]...)
		}
		s.Prepare = []guestspec.Step{{Command: collations, User: "root", Unconfined: true}, {Command: append(prepare, "--", "--locale-provider=icu", "--icu-locale=und", "--locale=C"), User: "root", Unconfined: true}}
		b.spec.Services[0] = s
	}
	want := func(v *boot, sql, want string) {
		t.Helper()
		if got, err := v.query(password, sql); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sql, got, err, want)
		}
	}
	const major, rows = "SELECT current_setting('server_version_num')::int / 10000", "SELECT count(*) FROM kept"

	with(postgrestest.Bin("15"), "")
	v := b.boot(t)
	v.waitReady()
	want(v, "CREATE EXTENSION pg_trgm; CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n; "+major, "15")
	if _, fault := v.upgrade(guestspec.DoUpgrade); !strings.Contains(fault, "has one PostgreSQL alone") {
		t.Errorf("a version with one server: %q", fault)
	}
	v.waitService("postgres", "ready", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
	v.shutDown()

	with(postgrestest.Bin("17"), postgrestest.Bin("15"))
	v = b.boot(t)
	v.waitReady()
	want(v, major, "15")
	if noted, err := v.run("/bin/sh", "-c", "read noted </data/postgres.collations; echo $noted"); err != nil || !strings.HasPrefix(noted, postgrestest.Bin("17")+postgrestest.Bin("15")+" ") {
		t.Errorf("the indexes of 15 were not looked at: %q, %v", noted, err)
	}
	// Backup and restore use the programs of 15 although those of 17 are installed.
	code, saved := v.stream(http.MethodGet, guestapi.PathBackup, token, nil)
	want(v, "DELETE FROM kept; "+rows, "0")
	_, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, bytes.NewReader(saved))
	if e := lastEvent(t, answer); code != http.StatusOK || e.Done == nil {
		t.Errorf("a backup is restored: %d %+v", code, e)
	}
	want(v, rows, "1000")
	did, fault := v.upgrade(guestspec.DoUpgrade)
	if fault != "" || did.From != "15" || did.To != "17" || did.Kept != "/data/postgres.old-15" {
		t.Errorf("%+v, %q", did, fault)
	}
	want(v, major, "17")
	want(v, rows, "1000")
	v.shutDown()
	wantNoSecret(t, v)
	b.wantCleanDisk(t)

	with(postgrestest.Bin("17"), "")
	postgres := &b.spec.Services[0]
	postgres.PostReady = append(slices.Clone(postgres.PostReady), guestspec.Step{
		Command: []string{"/init/sov-init", "postgres-extension", "--socket=/run/postgresql/.s.PGSQL.5432", "--name=vector", "--database=postgres"},
	})
	v = b.boot(t)
	v.waitReady()
	want(v, rows, "1000")
	want(v, `CREATE TABLE items AS SELECT n, ARRAY[n, 2 * n, 0]::vector(3) e FROM generate_series(1, 1000) n; CREATE INDEX ON items USING hnsw (e vector_l2_ops);
		SET enable_seqscan = off; SELECT n FROM items ORDER BY e <-> '[500.2, 1000.1, 0]' LIMIT 3`, "500\n501\n499")
	if kept := v.status().Postgres.Kept; len(kept) != 1 || kept[0].Major != "15" || kept[0].Path != "/data/postgres.old-15" || kept[0].Size < 10<<20 {
		t.Errorf("status: kept are %+v", kept)
	}
	if did, fault := v.upgrade(guestspec.DoForget); fault != "" || !slices.Equal(did.Removed, []string{"/data/postgres.old-15"}) {
		t.Errorf("%+v, %q", did, fault)
	}
	if kept := v.status().Postgres.Kept; len(kept) != 0 {
		t.Errorf("status: kept after all were forgotten are %+v", kept)
	}
	if code, body, _ := v.request(http.MethodPost, guestapi.PathUpgrade+"?do=harm", token, nil); code != http.StatusBadRequest {
		t.Errorf("an unknown deed: %d %s", code, body)
	}
	v.shutDown()
}

// upgrade requests an upgrade step and returns its result or error.
func (v *boot) upgrade(do string) (did *backup.Upgraded, fault string) {
	v.t.Helper()
	code, body, err := v.request(http.MethodPost, guestapi.PathUpgrade+"?"+guestapi.QueryDo+"="+do, token, nil)
	if err != nil || code != http.StatusOK {
		v.t.Fatalf("%s: %d %q %v", do, code, body, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		var e backup.Event
		must(v.t, json.Unmarshal(lines.Bytes(), &e))
		if e.Upgraded != nil || e.Fault != "" {
			return e.Upgraded, e.Fault
		}
	}
	v.t.Fatalf("%s ends without a word: %q", do, body)
	return nil, ""
}
