//go:build linux

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// The tests of this file run in a root file system with three major versions of PostgreSQL, as the
// first process of a PID namespace. When that process ends, everything in it is killed at once, as
// by a power cut.

// A deed is the task of a child in such a root.
type deed struct {
	Root, Do string
	Old, New string   // major versions
	Init     []string // arguments of initdb
	Die      string   // die at this step of an upgrade; empty: do not die
}

const deedVariable = "SOV_TEST_UPGRADE"

func TestMain(m *testing.M) {
	if text := os.Getenv(deedVariable); text != "" {
		var d deed
		err := json.Unmarshal([]byte(text), &d)
		if err == nil {
			err = d.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "deed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run does the deed and prints the result.
func (d deed) run() error {
	if err := unix.Chroot(d.Root); err != nil {
		return err
	}
	if err := errors.Join(unix.Chdir("/"), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return err
	}
	ctx := context.Background()
	u := Upgrade{Data: "/data/postgres", User: "postgres", Bin: postgrestest.Bin(d.New), Config: "/etc/sov/postgresql.conf", Sockets: "/run/postgresql", Output: os.Stderr}
	if d.Old != "" {
		u.OldBin = postgrestest.Bin(d.Old)
	}
	print := func(v any, err error) error { return errors.Join(err, json.NewEncoder(os.Stdout).Encode(v)) }
	switch d.Do {
	case "create":
		return d.create(ctx, u)
	case "upgrade":
		u.step = func(name string) {
			fmt.Fprintln(os.Stderr, "step", name)
			if name == d.Die {
				os.Exit(dead)
			}
		}
		// The service's tmpfs must not move with the old cluster, which could not be removed then.
		if err := unix.Mount("tmpfs", u.Data+"/pg_dynshmem", "tmpfs", 0, ""); err != nil {
			return err
		}
		did, err := u.Run(ctx)
		if did != nil {
			if left := filesystem.MountsBelow(did.Kept); len(left) > 0 {
				return fmt.Errorf("mounted in the kept cluster: %v", left)
			}
		}
		return print(did, err)
	case "checksums":
		return print(u.EnableChecksums(ctx))
	case "forget":
		return print(Forget(u.Data))
	}
	return print(d.look(ctx, u))
}

// dead is the exit status of a child that died at the requested step.
const dead = 99

// script creates databases with everything that an upgrade has to preserve.
const script = `
CREATE ROLE app LOGIN PASSWORD 'kept';
ALTER SYSTEM SET work_mem = '5MB';
ALTER SYSTEM SET hba_file = '/nowhere';
CREATE TABLESPACE space LOCATION '/data/space';
CREATE DATABASE shop OWNER app;
\connect shop
CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; CREATE EXTENSION ltree; CREATE EXTENSION citext; CREATE EXTENSION btree_gin;
CREATE TABLE goods (id int PRIMARY KEY, name citext, tags hstore, place ltree, note text, at timestamptz DEFAULT '2026-11-27');
INSERT INTO goods SELECT n, 'Name ' || n, hstore('k' || n % 7, n::text), ('a.b' || n % 11)::ltree, md5(n::text) FROM generate_series(1, 5000) n;
CREATE INDEX ON goods USING gin (note gin_trgm_ops);
CREATE INDEX ON goods USING gist (place);
CREATE INDEX ON goods (lower(name));
CREATE TABLE far (n int, t text) TABLESPACE space;
INSERT INTO far SELECT n, repeat('x', 5000) || n FROM generate_series(1, 50) n;
CREATE SEQUENCE counter START 42; SELECT nextval('counter');
SELECT lo_from_bytea(4711, 'large');
CREATE VIEW cheap AS SELECT id, name FROM goods WHERE id < 10;
`

func (d deed) create(ctx context.Context, u Upgrade) error {
	if err := os.MkdirAll("/data/space", 0o700); err != nil {
		return err
	}
	if err := os.Chown("/data/space", 70, 70); err != nil {
		return err
	}
	if err := (Preparation{Data: u.Data, Bin: u.Bin, User: u.User, Output: os.Stderr, InitArgs: d.Init}).Run(ctx); err != nil {
		return err
	}
	w, err := u.begin()
	if err != nil {
		return err
	}
	return w.with(ctx, u.Bin, u.Data, func(socket string) error {
		c := w.command(ctx, u.Bin, "psql", "-h", filepath.Dir(socket), "-p", privatePort, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q")
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(script), os.Stderr, os.Stderr
		return c.Run()
	})
}

// A look is the observed content of a cluster.
type look struct {
	Major  string
	Rows   []string // answers to questions
	Locale string
}

// questions have the same answers in every version.
var questions = []string{
	"SELECT count(*), md5(string_agg(concat(id, name, tags, place, note, at), ',' ORDER BY id)) FROM goods",
	"SELECT count(*) FROM goods WHERE note LIKE '%abc%'",
	"SELECT count(*) FROM goods WHERE place <@ 'a.b3'",
	"SELECT count(*), sum(length(t)) FROM far",
	"SELECT last_value FROM counter",
	"SELECT convert_from(lo_get(4711), 'UTF8')",
	"SELECT count(*) FROM cheap",
	"SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'app'",
	"SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension",
	"SHOW work_mem",
	"SELECT spcname FROM pg_tablespace t JOIN pg_class c ON c.reltablespace = t.oid WHERE relname = 'far'",
	"SHOW wal_segment_size",
	"SELECT pg_encoding_to_char(encoding) || datcollate || datctype FROM pg_database WHERE datname = 'shop'",
}

// look starts the cluster's server, as the guest does, and queries it.
func (d deed) look(ctx context.Context, u Upgrade) (l look, err error) {
	if err := (Preparation{Data: u.Data, Bin: u.Bin, OldBin: u.OldBin, User: u.User, Output: os.Stderr}).Run(ctx); err != nil {
		return l, err
	}
	bin, err := BinOf(ctx, u.Data, u.Bin, u.OldBin)
	if err != nil {
		return l, err
	}
	if l.Major, err = serverMajor(ctx, bin); err != nil {
		return l, err
	}
	w, err := u.begin()
	if err != nil {
		return l, err
	}
	return l, w.with(ctx, bin, u.Data, func(socket string) error {
		conn, err := connectTo(ctx, socket, "shop")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		for _, q := range append(questions, "SELECT coalesce(to_jsonb(d)->>'datlocprovider', 'c') FROM pg_database d WHERE datname = 'shop'", "SHOW data_checksums",
			"SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'goods'") {
			rows, err := query(ctx, conn, q)
			if err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
			l.Rows = append(l.Rows, fmt.Sprint(rows))
		}
		return nil
	})
}

// do runs a child and decodes its output.
func (d deed) do(t *testing.T, into any) error {
	t.Helper()
	c, out, log := d.start(t)
	err := c.Wait()
	if err != nil {
		if c.ProcessState.ExitCode() == dead {
			return errDead
		}
		return fmt.Errorf("%s: %w\n%s", d.Do, err, log)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), into)
}

var errDead = errors.New("it died as it was told")

func (d deed) start(t *testing.T) (c *exec.Cmd, out, log *bytes.Buffer) {
	t.Helper()
	text, err := json.Marshal(d)
	must(t, err)
	c = exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), deedVariable+"="+string(text))
	out, log = &bytes.Buffer{}, &bytes.Buffer{}
	c.Stdout, c.Stderr = out, log
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC, Unshareflags: unix.CLONE_NEWNS}
	must(t, childtest.Start(c, nil))
	return c, out, log
}

// servers are a root file system in which clusters are created and upgraded.
type servers struct{ root string }

func newServers(t *testing.T) servers {
	t.Helper()
	s := servers{postgrestest.Root(t)}
	must(t, os.WriteFile(filepath.Join(s.root, "etc/sov/postgresql.conf"), []byte(`
listen_addresses = '*'
data_directory = '/data/postgres'
unix_socket_directories = '/run/postgresql'
dynamic_shared_memory_type = mmap
password_encryption = scram-sha-256
hba_file = '/etc/sov/pg_hba.conf'
ident_file = '/etc/sov/pg_ident.conf'
shared_buffers = 16MB
`), 0o644))
	must(t, os.WriteFile(filepath.Join(s.root, "etc/sov/pg_hba.conf"), []byte("local all all peer map=sov\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.root, "etc/sov/pg_ident.conf"), []byte("sov postgres postgres\nsov root postgres\n"), 0o644))
	return s
}

// create creates a new cluster instead of any existing one and returns its content.
func (s servers) create(t *testing.T, major string, init ...string) look {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(s.root, "data", "*"))
	must(t, err)
	for _, path := range old {
		must(t, os.RemoveAll(path))
	}
	must(t, deed{Root: s.root, Do: "create", New: major, Init: init}.do(t, nil))
	return s.look(t, "", major)
}

// look returns the cluster's content.
func (s servers) look(t *testing.T, old, major string) (l look) {
	t.Helper()
	must(t, deed{Root: s.root, Do: "look", Old: old, New: major}.do(t, &l))
	return l
}

// folders returns the names on the data disk.
func (s servers) folders(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, "data"))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	inner, err := filepath.Glob(filepath.Join(s.root, "data/space/PG_*"))
	must(t, err)
	for _, name := range inner {
		names = append(names, strings.Join(strings.Split(filepath.Base(name), "_")[:2], "_"))
	}
	return strings.Join(names, " ")
}

// same compares the cluster's content before and after, regardless of the version.
func same(t *testing.T, when string, before, after look, major string) {
	t.Helper()
	if after.Major != major {
		t.Errorf("%s: PostgreSQL %s runs, want %s", when, after.Major, major)
	}
	for i := range questions {
		if before.Rows[i] != after.Rows[i] {
			t.Errorf("%s: %s: %s, before %s", when, questions[i], after.Rows[i], before.Rows[i])
		}
	}
	for i, want := range map[int]string{len(questions): before.Rows[len(questions)], len(questions) + 1: before.Rows[len(questions)+1]} {
		if after.Rows[i] != want {
			t.Errorf("%s: provider or checksums are %s, before %s", when, after.Rows[i], want)
		}
	}
}

var (
	// Arguments of initdb for clusters of each version, see stages/postgres.
	initLibc = []string{"--locale=C"}
	initICU  = []string{"--locale-provider=icu", "--icu-locale=und", "--locale=C"}
)

// TestUpgrade upgrades clusters from each major version to the next ones, and kills the upgrade at
// each step. The cluster of 15 is created as a release of sov does.
func TestUpgrade(t *testing.T) {
	s := newServers(t)
	steps := func(old, major string, want look) { // dies at each step
		all := []string{"folders", "initdb", "copied", "synced", "exchanged"}
		if repeat.Whole() {
			all = []string{"looked", "folders", "initdb", "settings", "checked", "copied", "proven", "synced", "exchanged", "settled"}
		}
		for _, step := range all {
			if err := (deed{Root: s.root, Do: "upgrade", Old: old, New: major, Die: step}).do(t, nil); !errors.Is(err, errDead) {
				t.Fatalf("killed at %s: %v", step, err)
			}
			committed := step == "exchanged" || step == "settled"
			runs, left := old, "postgres space PG_"+old
			if committed {
				runs, left = major, "postgres postgres.old-"+old+" space PG_"+old+" PG_"+major
			}
			same(t, "after a kill at "+step, want, s.look(t, old, major), runs)
			if got := s.folders(t); got != left {
				t.Errorf("after a kill at %s and a start there are %s, want %s", step, got, left)
			}
			if committed {
				s.back(t, old)
			}
		}
	}
	var whole time.Duration // of the last upgrade
	upgrade := func(old, major string, want look) {
		t.Helper()
		var did backup.Upgraded
		began := time.Now()
		must(t, deed{Root: s.root, Do: "upgrade", Old: old, New: major}.do(t, &did))
		whole = time.Since(began)
		if did.From != old || did.To != major || did.Kept != "/data/postgres.old-"+old || did.KeptSize < 10<<20 {
			t.Errorf("it did %+v", did)
		}
		after := s.look(t, old, major)
		same(t, "after "+old+" to "+major, want, after, major)
		if after.Rows[len(questions)+2] != "[[t]]" {
			t.Error("there are no statistics")
		}
	}
	want := s.create(t, "13", initLibc...)
	t.Run("13 to 15 to 17", func(t *testing.T) {
		upgrade("13", "15", want)
		var removed []string
		must(t, deed{Root: s.root, Do: "forget", New: "15"}.do(t, &removed))
		if got := s.folders(t); len(removed) != 1 || got != "postgres space PG_15" {
			t.Errorf("forgotten: %v, and there are %s", removed, got)
		}
		upgrade("15", "17", want)
		var l look
		if err := (deed{Root: s.root, Do: "look", New: "15"}).do(t, &l); err == nil || !strings.Contains(err.Error(), "holds a cluster of PostgreSQL 17 and this image brings PostgreSQL 15") {
			t.Errorf("a version of the machine with 15 alone: %v", err)
		}
		if err := (deed{Root: s.root, Do: "upgrade", Old: "15", New: "17"}).do(t, nil); err == nil || !strings.Contains(err.Error(), "already belong to PostgreSQL 17") {
			t.Errorf("again: %v", err)
		}
	})
	t.Run("a release's 15 to 17, killed at each step", func(t *testing.T) {
		want := s.create(t, "15", initICU...)
		if want.Rows[len(questions)] != "[[i]]" || want.Rows[len(questions)+1] != "[[on]]" {
			t.Fatalf("the cluster has %v", want.Rows)
		}
		steps("15", "17", want)
		upgrade("15", "17", want)
	})
	t.Run("killed at random moments", func(t *testing.T) {
		s.back(t, "15")
		want := s.look(t, "15", "17")
		random := rand.New(rand.NewPCG(repeat.Seed(t), 0))
		ends := map[string]int{}
		for range repeat.Times(t, 1, 30) {
			c, _, _ := deed{Root: s.root, Do: "upgrade", Old: "15", New: "17"}.start(t)
			moment := time.Duration(random.Int64N(int64(whole) * 3 / 2)) // some after the final step
			timer := time.AfterFunc(moment, func() { c.Process.Kill() })
			c.Wait()
			timer.Stop()
			after := s.look(t, "15", "17")
			ends[after.Major]++
			same(t, fmt.Sprintf("killed after %v", moment), want, after, after.Major)
			if after.Major == "17" {
				s.back(t, "15")
			}
		}
		t.Logf("kills within %v left %v", whole, ends)
	})
	t.Run("13 to 17, of a server that has crashed, without checksums, and enabled afterwards", func(t *testing.T) {
		s.create(t, "13", "--locale=C", "--wal-segsize=4")
		must(t, exec.Command("chroot", "--userspec=70:70", s.root, postgrestest.Bin("13")+"/pg_checksums", "--disable", "-D", "/data/postgres").Run())
		want := s.look(t, "", "13")
		if want.Rows[len(questions)+1] != "[[off]]" {
			t.Fatalf("the cluster has %v", want.Rows)
		}
		crash(t, s, "13")
		upgrade("13", "17", want)
		var did backup.Upgraded
		must(t, deed{Root: s.root, Do: "checksums", Old: "13", New: "17"}.do(t, &did))
		if l := s.look(t, "13", "17"); !did.Checksums || l.Rows[len(questions)+1] != "[[on]]" {
			t.Errorf("checksums are %s after %+v", l.Rows[len(questions)+1], did)
		}
		if err := (deed{Root: s.root, Do: "checksums", New: "17"}).do(t, nil); err == nil || !strings.Contains(err.Error(), "has them already") {
			t.Errorf("again: %v", err)
		}
	})
	t.Run("what cannot be upgraded stays", func(t *testing.T) {
		want := s.create(t, "13", initLibc...)
		auto := filepath.Join(s.root, "data/postgres", autoConf)
		text, err := os.ReadFile(auto)
		must(t, err)
		must(t, os.WriteFile(auto, append(text, "vacuum_cleanup_index_scale_factor = 0.2\n"...), 0o600)) // removed in 14
		err = deed{Root: s.root, Do: "upgrade", Old: "13", New: "17"}.do(t, nil)
		if err == nil || !strings.Contains(err.Error(), "vacuum_cleanup_index_scale_factor") || !strings.Contains(err.Error(), "ALTER SYSTEM RESET") {
			t.Errorf("a setting that is gone: %v", err)
		}
		must(t, os.WriteFile(auto, text, 0o600))
		library := filepath.Join(s.root, "usr/lib/postgresql17/ltree.so")
		must(t, os.Rename(library, library+".away"))
		err = deed{Root: s.root, Do: "upgrade", Old: "13", New: "17"}.do(t, nil)
		must(t, os.Rename(library+".away", library))
		if err == nil || !strings.Contains(err.Error(), "$libdir/ltree") {
			t.Errorf("an extension that the new version lacks: %v", err)
		}
		data := filepath.Join(s.root, "data")
		must(t, unix.Mount("", data, "", unix.MS_REMOUNT, "size=200m"))
		err = deed{Root: s.root, Do: "upgrade", Old: "13", New: "17"}.do(t, nil)
		must(t, unix.Mount("", data, "", unix.MS_REMOUNT, "size=1g"))
		if err == nil || !strings.Contains(err.Error(), "there is not enough room on the data disk") {
			t.Errorf("a full disk: %v", err)
		}
		same(t, "after what was refused", want, s.look(t, "13", "17"), "13")
		if got := s.folders(t); got != "postgres space PG_13" {
			t.Errorf("what was refused leaves %s", got)
		}
	})
}

// back restores the kept cluster. Only this test does so.
func (s servers) back(t *testing.T, old string) {
	t.Helper()
	data := filepath.Join(s.root, "data/postgres")
	must(t, removeCluster(data))
	must(t, os.Rename(KeptDir(data, old), data))
	spaces, err := filepath.Glob(filepath.Join(s.root, "data/space/PG_*"))
	must(t, err)
	for _, dir := range spaces {
		if !strings.HasPrefix(filepath.Base(dir), "PG_"+old+"_") {
			must(t, os.RemoveAll(dir))
		}
	}
}

// crash leaves the cluster as a power cut does: its log must be replayed.
func crash(t *testing.T, s servers, major string) {
	t.Helper()
	c, _, log := deed{Root: s.root, Do: "look", New: major}.start(t)
	control := filepath.Join(s.root, "data/postgres/postmaster.pid")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(control); err == nil && strings.Contains(string(text), "ready") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no server comes up\n%s", log)
		}
	}
	must(t, c.Process.Kill())
	c.Wait()
}
