package endurance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/mirror"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestUpgradeOnAPhone upgrades databases on a phone from PostgreSQL 15, as an earlier version of
// sov has created them, to 17 with `sov upgrade`.
func TestUpgradeOnAPhone(t *testing.T) {
	sources, old := sovtest.Release(t, "b65ef00")
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	both := mirrortest.StartWith(t, mirror.Options{Arches: []string{"arm64"}, Fixtures: mirrortest.Fixtures(), Release: "trixie", Beside: []string{"bookworm"}})
	of := []string{"--image", both.Image(), "--repository", both.Repositories()[0], "--arch", "arm64"}
	device := []string{"--device", p.ADB.Serial()}
	folder := t.TempDir()
	recipe := filepath.Join(folder, "sql.yaml")
	text, err := os.ReadFile(filepath.Join(sources, "assets", "sql.yaml"))
	if err == nil {
		err = os.WriteFile(recipe, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(program string, status int, args ...string) sovtest.Outcome {
		t.Helper()
		o := p.SovBy(program, args...)
		if o.Status != status {
			t.Fatalf("sov %s: %v\n%s", strings.Join(args, " "), o, p.Logs())
		}
		return o
	}
	sov := func(status int, verb string, args ...string) sovtest.Outcome {
		t.Helper()
		return run(sovtest.Program, status, append([]string{verb}, args...)...)
	}
	first, second := filepath.Join(folder, "old"), filepath.Join(folder, "new")
	run(old, 0, append([]string{"build", recipe, "--arch", "arm64", "-o", first}, sovtest.FromMirror()...)...)
	run(old, 0, "secrets", "set", "sql", "postgres")
	run(old, 0, append([]string{"push", filepath.Join(first, "sql/arm64"), "--start"}, device...)...)
	p.Ask("create extension pg_trgm; create table journey as select n, md5(n::text) word from generate_series(1, 1000) n; create index on journey using gin (word gin_trgm_ops)")

	said := sov(0, "lock", slices.Concat([]string{recipe, "--update", "all", "--set", "postgres.major=17"}, of)...).Stdout
	if !strings.Contains(said, "PostgreSQL 15 becomes 17: databases of 15 on phones need `sov upgrade sql`") {
		t.Errorf("the lock says %s", said)
	}
	sov(0, "build", slices.Concat([]string{recipe, "-o", second}, of)...)
	if o := sov(3, "push", append([]string{filepath.Join(second, "sql/arm64"), "--start"}, device...)...); !strings.Contains(o.Stderr, "belong to PostgreSQL 15, and this version of the machine has 17") {
		t.Errorf("a push of another major version: %v", o)
	}
	sov(0, "upgrade", slices.Concat([]string{recipe, "-o", second, "--backup", filepath.Join(folder, "before.zip")}, of, device)...)
	want := func(when string) {
		t.Helper()
		if got := p.Ask("select concat_ws(' ', current_setting('server_version_num')::int / 10000, count(*), count(*) filter (where word like '%abc%') > 0) from journey"); !slices.Equal(got, []string{"17 1000 t"}) {
			t.Errorf("%s: %q", when, got)
		}
	}
	want("upgraded")
	if o := sov(1, "rollback", append([]string{"sql"}, device...)...); !strings.Contains(o.Stderr, "the databases belong to PostgreSQL 17") {
		t.Errorf("a roll back: %v", o)
	}
	sov(0, "test", append([]string{"sql"}, device...)...)
	if o := sov(0, "status", append([]string{"sql"}, device...)...); !strings.Contains(o.Stdout, "the databases of PostgreSQL 15 from before the upgrade are kept") ||
		!strings.Contains(o.Stdout, "`sov upgrade sql --forget` removes them") {
		t.Errorf("status: %v", o)
	}
	if o := sov(0, "upgrade", append([]string{"sql", "--forget", "--json"}, device...)...); !strings.Contains(o.Stdout, "/data/postgres.old-15") {
		t.Errorf("forgotten: %v", o)
	}
	sov(0, "push", append([]string{filepath.Join(second, "sql/arm64"), "--start"}, device...)...)
	want("with 17 alone")
	if _, err := os.Stat(filepath.Join(folder, "before.zip")); err != nil {
		t.Error(err)
	}
}
