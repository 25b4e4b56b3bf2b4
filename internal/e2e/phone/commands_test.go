package phone

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/acceptance"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestPhoneFromAComputer runs the everyday commands for a machine on a phone from a computer with
// the real adb.
func TestPhoneFromAComputer(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, "")
	server := androidtest.NewADBServer(t)
	server.Connect(h.ServeADB(androidtest.ADBOptions{}))
	before := h.Snapshot()
	run := func(want int, args ...string) sovtest.Outcome {
		t.Helper()
		o := sovtest.Run(t, func(c *exec.Cmd) {
			c.Env = append(os.Environ(), "PATH="+filepath.Dir(server.Program())+":"+os.Getenv("PATH"), "ANDROID_SERIAL=",
				"PGPASSWORD="+phonetest.Password) // set by a user who stores the password elsewhere
		}, args...)
		if o.Status != want {
			t.Fatalf("sov %s: want status %d: %v\n%s", strings.Join(args, " "), want, o, h.Logs())
		}
		return o
	}
	report := func(want int) *health.Machine {
		t.Helper()
		return phonetest.Health(t, run(want, "test", "sql", "--json").Stdout)
	}

	for _, c := range report(3).Checks { // nothing runs yet
		if c.Check == acceptance.Process && c.Verdict != finding.Failed {
			t.Errorf("before the start: %+v", c)
		}
	}
	run(1, "backup", "sql", filepath.Join(t.TempDir(), "x.zip"))
	if o := run(0, "start", "sql"); !strings.Contains(o.Stdout, "sql is ready at 192.168.100.2") {
		t.Errorf("start: %v", o)
	}
	for _, c := range report(0).Checks {
		skipped := c.Check == acceptance.Tailscale || c.Check == acceptance.TailscaleSQL // no key is set
		if skipped != (c.Verdict == finding.Skipped) || !skipped && c.Verdict != finding.OK {
			t.Errorf("%+v", c)
		}
	}
	if status := phonetest.Health(t, run(0, "status", "sql", "--json").Stdout); status.Phase != runnerapi.Ready || status.Backup != nil || !status.Database.Ready {
		t.Errorf("status: %+v", status)
	}
	if o := run(0, "logs", "sql", "-n", "1000"); !strings.Contains(o.Stdout, "sov-init[1]") || strings.Contains(o.Stdout, "\x1b") {
		t.Errorf("logs: %v", o)
	}
	if o := run(0, "diagnose", "sql"); !strings.Contains(o.Stdout, "nothing is broken") {
		t.Errorf("diagnose: %v", o)
	}

	authority := forwarded(t, server)
	kept, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(authority, []byte("another one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := run(1, "psql", "sql", "--", "-Atc", "select 1"); !strings.Contains(o.Stderr, "sql on") || !strings.Contains(o.Stderr, "shows another certificate authority") {
		t.Errorf("psql of a machine with another authority: %v", o)
	}
	if o := run(0, "psql", "sql", "--accept-authority", "--", "-Atc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); o.Stdout != "t\n" {
		t.Errorf("psql that accepts it: %v", o)
	}
	if now, err := os.ReadFile(authority); err != nil || !bytes.Equal(now, kept) {
		t.Errorf("the authority that was accepted is not kept: %q, %v", now, err)
	}

	if o := run(7, "exec", "sql", "--", "sh", "-c", "id -un; echo oops >&2; exit 7"); o.Stdout != "root\n" || o.Stderr != "oops\n" {
		t.Errorf("exec: %v", o)
	}
	if o := run(0, "psql", "sql", "--", "-Atc", "select 41 + 1"); o.Stdout != "42\n" {
		t.Errorf("psql: %v", o)
	}
	o := sovtest.Run(t, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "PATH="+filepath.Dir(server.Program()), "ANDROID_SERIAL=")
	},
		"psql", "sql", "--", "-Atc", "select current_user")
	if o.Status != 0 || o.Stdout != "postgres\n" {
		t.Errorf("psql of the guest, on a computer without one: %v", o)
	}
	if o := run(0, "logs", "sql", "--service", "init"); !strings.Contains(o.Stdout, "session begins") || !strings.Contains(o.Stdout, `how="exit status 7"`) {
		t.Errorf("the guest's journal: %v", o)
	}

	h.Ask("create database shop")
	h.Ask("create table journey as select 'saved'::text as stop, repeat(md5(g::text), 100) as ballast from generate_series(1, 2000) g")
	file := filepath.Join(t.TempDir(), "sql.zip")
	if o := run(0, "backup", "sql", file); !strings.Contains(o.Stdout, "postgres, shop") {
		t.Errorf("backup: %v", o)
	}
	status := phonetest.Health(t, run(0, "status", "sql", "--json").Stdout)
	if b := status.Backup; b == nil || time.Since(b.At).Abs() > time.Minute || !slices.Equal(b.Databases, []string{"app", "postgres", "shop"}) {
		t.Errorf("the status does not know the backup: %+v", b)
	}
	if d := status.Disks; len(d) != 1 || d[0].Allocated == 0 || d[0].Allocated > d[0].Size || d[0].Free == 0 {
		t.Errorf("disks: %+v", d)
	}
	list, err := exec.Command("pg_restore", "--list", unzip(t, file, "postgres.dump")).CombinedOutput()
	if err != nil || !strings.Contains(string(list), "TABLE DATA public journey") {
		t.Errorf("pg_restore does not read it: %v: %s", err, list)
	}
	h.Ask("update journey set stop = 'lost'")
	run(2, "restore", "sql", file) // without a terminal
	if o := run(0, "restore", "sql", file, "--yes"); !strings.Contains(o.Stdout, "restored: app, postgres, shop") {
		t.Errorf("restore: %v", o)
	}
	if got := h.Ask("select distinct stop from journey"); strings.Join(got, " ") != "saved" {
		t.Errorf("after the restore: %q", got)
	}
	encryptedBackup(h, run)
	run(0, "restart", "sql", "--json")
	if got := h.Ask("select count(*) from journey"); strings.Join(got, " ") != "2000" {
		t.Errorf("after a restart: %q", got)
	}
	run(0, "stop", "sql")
	run(0, "stop", "sql")
	phonetest.SameNetwork(t, "after stop", before, h.Snapshot())
	run(0, "remove", "sql", "--data", "--yes")
	phonetest.SameNetwork(t, "after remove", before, h.Snapshot())
}

// encryptedBackup writes a backup for one identity, checks that invalid files are rejected before
// they reach the phone, and restores the backup.
func encryptedBackup(h *phonetest.Handset, run func(status int, args ...string) sovtest.Outcome) {
	h.T.Helper()
	dir := h.T.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		h.T.Fatal(err)
	}
	key, file, cut := filepath.Join(dir, "key.txt"), filepath.Join(dir, "sql.zip.age"), filepath.Join(dir, "cut.age")
	if err := os.WriteFile(key, []byte(identity.String()), 0o600); err != nil {
		h.T.Fatal(err)
	}
	if o := run(0, "backup", "sql", file, "--recipient", identity.Recipient().String()); !strings.Contains(o.Stdout, "postgres, shop, encrypted to 1 recipient") {
		h.T.Errorf("backup: %v", o)
	}
	whole, err := os.ReadFile(file)
	if err != nil || bytes.Contains(whole, []byte("PGDMP")) {
		h.T.Errorf("the backup is plain, or %v", err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)-100], 0o600); err != nil {
		h.T.Fatal(err)
	}
	h.Ask("update journey set stop = 'lost'")
	if o := run(1, "restore", "sql", file, "--yes"); !strings.Contains(o.Stderr, "is encrypted to 1 recipient: give --identity") {
		h.T.Errorf("without an identity: %v", o)
	}
	if o := run(1, "restore", "sql", cut, "--yes", "--identity", key); !strings.Contains(o.Stderr, "is not whole, or was changed") {
		h.T.Errorf("cut off: %v", o)
	}
	if o := run(0, "restore", "sql", file, "--check", "--identity", key); !strings.Contains(o.Stdout, "postgres, shop, encrypted to 1 recipient") {
		h.T.Errorf("check: %v", o)
	}
	if got := h.Ask("select distinct stop from journey"); strings.Join(got, " ") != "lost" {
		h.T.Errorf("before the restore: %q", got)
	}
	if o := run(0, "restore", "sql", file, "--yes", "--database", "postgres", "--identity", key); !strings.Contains(o.Stdout, "restored: postgres") {
		h.T.Errorf("restore: %v", o)
	}
	if got := h.Ask("select distinct stop from journey"); strings.Join(got, " ") != "saved" {
		h.T.Errorf("after the restore: %q", got)
	}
}

// forwarded queries the database through `sov forward` and ends it with Ctrl-C. It returns the path
// of the authority with which clients verify the database.
func forwarded(t *testing.T, server *androidtest.ADBServer) (authority string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), sovtest.Program, "forward", "sql", "--json")
	command.Env = append(os.Environ(), "PATH="+filepath.Dir(server.Program())+":"+os.Getenv("PATH"), "ANDROID_SERIAL=")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := childtest.Start(command, nil); err != nil {
		t.Fatal(err)
	}
	var told struct{ URL string }
	if err := json.NewDecoder(out).Decode(&told); err != nil {
		t.Fatal(err)
	}
	config, err := pgconn.ParseConfig(told.URL)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(told.URL)
	if err != nil || u.Query().Get("sslmode") != "verify-full" {
		t.Fatalf("%s does not verify the database: %v", told.URL, err)
	}
	config.Password = phonetest.Password
	for range 2 {
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := conn.Exec(t.Context(), "select repeat('x', 1000000)").ReadAll()
		if err != nil || len(rows[0].Rows[0][0]) != 1000000 {
			t.Errorf("through sov forward: %v", err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	command.Process.Signal(os.Interrupt)
	if err := command.Wait(); err != nil {
		t.Errorf("sov forward, after Ctrl-C: %v", err)
	}
	return u.Query().Get("sslrootcert")
}

// unzip extracts an archive and returns the path of the named file.
func unzip(t *testing.T, archive, name string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("unzip", "-q", archive, "-d", dir).CombinedOutput(); err != nil {
		t.Fatalf("unzip %s: %v: %s", archive, err, out)
	}
	return filepath.Join(dir, name)
}
