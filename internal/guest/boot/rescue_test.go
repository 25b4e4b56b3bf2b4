//go:build linux

package boot

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/session"
)

// TestRescue breaks a server's start as users have done, and checks each repair.
func TestRescue(t *testing.T) {
	b := newPostgresBox(t)
	const password = "c4n4ry"
	b.config.Secrets = map[string]string{"postgres": password}
	b.spec.Services[0].Restart = guestspec.Restart{Backoff: guestspec.Duration(50 * time.Millisecond), MaxBackoff: guestspec.Duration(200 * time.Millisecond)}
	b.spec.Services[0].Command = append(b.spec.Services[0].Command, "-c", "port=5432") // as stages/postgres does
	b.spec.Services[0].Stop.Timeout = guestspec.Duration(5 * time.Second)
	ask := func(v *boot, sql string) string {
		t.Helper()
		got, err := v.query(password, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		return got
	}
	alter := func(v *boot, settings ...string) {
		t.Helper()
		for _, s := range settings { // ALTER SYSTEM cannot run in a transaction
			ask(v, "ALTER SYSTEM SET "+s)
		}
	}

	t.Run("wrong settings of ALTER SYSTEM", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		alter(v, "work_mem = '5MB'", "port = 1")
		v.shutDown()
		v = b.boot(t)
		v.waitReady() // now work_mem is known to be good
		if p := v.status().Postgres; p == nil || strings.Join(p.Ignored, " ") != "port" {
			t.Errorf("status: %+v", p)
		}
		alter(v, "shared_buffers = '900GB'", "hba_file = '/nowhere'")
		v.shutDown()
		v = b.boot(t)
		v.waitLine(`reason="FATAL:  `)
		v.waitReady()
		v.waitLine("WARNING: the server has failed to start 3 times in a row")
		if text := v.text(); strings.Contains(text, "ended reason=\"exit status") {
			t.Error("a reason is PostgreSQL's exit status")
		}
		if got := ask(v, "SHOW shared_buffers") + ask(v, "SHOW work_mem"); got != "16MB5MB" {
			t.Errorf("the settings are %s", got)
		}
		want := guestapi.SettingsAside{File: "/data/postgres/postgresql.auto.conf.aside-1", Settings: []string{"hba_file", "shared_buffers"}}
		if p := v.status().Postgres; p == nil || len(p.Aside) != 1 || p.Aside[0].File != want.File || strings.Join(p.Aside[0].Settings, " ") != "hba_file shared_buffers" {
			t.Errorf("status: %+v", p)
		}
		if kept := ask(v, "SELECT pg_read_file('postgresql.auto.conf.aside-1')"); !strings.Contains(kept, "900GB") || !strings.Contains(kept, "5MB") {
			t.Errorf("kept: %s", kept)
		}
		alter(v, "shared_buffers = '17MB'")
		v.shutDown()
		v = b.boot(t) // new settings are accepted
		v.waitReady()
		if got := ask(v, "SHOW shared_buffers"); got != "17MB" {
			t.Errorf("shared_buffers is %s", got)
		}
		v.shutDown()
		wantNoSecret(t, v)
	})

	repair := func(v *boot, what string) guestapi.Repair {
		t.Helper()
		code, body, err := v.request(http.MethodPost, guestapi.PathRepair+"?what="+what, token, nil)
		var done guestapi.Repair
		if err := errors.Join(err, json.Unmarshal(body, &done)); err != nil || code != http.StatusOK || done.Fault != "" {
			t.Errorf("repair %s: %d %s, %v", what, code, body, err)
		}
		return done
	}
	t.Run("repair on demand", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		repair(v, guestapi.RepairForget)
		if p := v.status().Postgres; p.Aside != nil {
			t.Errorf("forgotten settings are told: %+v", p)
		}
		alter(v, "shared_buffers = '18MB'") // in addition to work_mem, with which it was ready
		done := repair(v, guestapi.RepairSettings)
		if len(done.Done) != 1 || !strings.Contains(done.Done[0], "shared_buffers, kept in /data/postgres/postgresql.auto.conf.aside-1") {
			t.Errorf("%q", done.Done)
		}
		if got := ask(v, "SHOW shared_buffers") + ask(v, "SHOW work_mem"); got != "17MB5MB" {
			t.Errorf("the settings are %s", got)
		}
		repair(v, guestapi.RepairSettings) // now also those with which it was ready
		if got := ask(v, "SHOW shared_buffers") + ask(v, "SHOW work_mem"); got != "16MB4MB" {
			t.Errorf("the settings are %s", got)
		}
		if done := repair(v, guestapi.RepairForget); len(done.Done) != 2 {
			t.Errorf("%q", done.Done)
		}
		alter(v, "shared_buffers = '17MB'")
		if code, body, err := v.request(http.MethodPost, guestapi.PathRepair+"?what=nonsense", token, nil); code != http.StatusBadRequest {
			t.Errorf("%d %s, %v", code, body, err)
		}
		v.shutDown()
		v = b.boot(t)
		v.waitReady() // now they are known to be good
		v.shutDown()
	})

	t.Run("a file of settings full of zeros", func(t *testing.T) {
		withData(t, b, func(data string) {
			must(t, os.WriteFile(filepath.Join(data, "postgres/postgresql.auto.conf"), make([]byte, 100), 0o600))
		})
		v := b.boot(t)
		v.waitReady()
		if got := ask(v, "SHOW shared_buffers"); got != "17MB" {
			t.Errorf("shared_buffers is %s", got)
		}
		v.shutDown()
	})

	t.Run("another reason than the settings", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		alter(v, "work_mem = '6MB'")
		v.shutDown()
		hba, err := os.ReadFile(filepath.Join(b.root, "etc/sov/postgres/pg_hba.conf"))
		must(t, err)
		b.write(t, "etc/sov/postgres/pg_hba.conf", "nonsense\n")
		v = b.boot(t)
		v.waitLine("they are in use again")
		s := v.waitService("postgres", "looping", func(s guestapi.Service) bool { return s.State == guestapi.StateLooping })
		if !strings.HasPrefix(s.Reason, "FATAL:  could not load ") {
			t.Errorf("reason: %q", s.Reason)
		}
		b.write(t, "etc/sov/postgres/pg_hba.conf", string(hba)) // the root is also the guest's
		v.waitReady()
		v.shutDown()
	})

	t.Run("an unknown password", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		ask(v, "ALTER ROLE postgres PASSWORD 'changed by hand and forgotten'")
		if _, err := v.query(password, "SELECT 1"); err == nil {
			t.Error("the password is still that of the secret")
		}
		v.shutDown()
		v = b.boot(t) // the phone's owner has set the secret
		v.waitReady()
		ask(v, "SELECT 1")
		v.shutDown()
	})

	t.Run("a superuser that may not log in", func(t *testing.T) {
		b.spec.Endpoint.Shell = true
		v := b.boot(t)
		v.waitReady()
		pid := v.service("postgres").PID
		ask(v, "ALTER ROLE postgres NOLOGIN")
		if _, err := v.query(password, "SELECT 1"); err == nil {
			t.Error("it may log in")
		}
		exit, out, errOut := v.command(session.Start{Command: []string{"/init/sov-init", "postgres-single"}, Pause: "postgres"},
			"ALTER ROLE postgres LOGIN\n")
		if exit.Status != 0 || exit.Fault != "" {
			t.Errorf("%+v %s %s", exit, out, errOut)
		}
		v.waitService("postgres", "ready again", func(s guestapi.Service) bool { return s.State == guestapi.StateReady && s.PID != pid })
		ask(v, "SELECT 1")
		if exit, _, _ := v.command(session.Start{Command: []string{"/bin/true"}, Pause: "nonsense"}, ""); !strings.Contains(exit.Fault, "no service nonsense") {
			t.Errorf("%+v", exit)
		}
		v.shutDown()
	})

	t.Run("a restore that was cut off", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		ask(v, `CREATE DATABASE "sov restore: new 0"`)
		must(t, v.cmd.Process.Kill())
		v.wantEnd(syscall.SIGKILL)
		v = b.boot(t)
		v.waitReady()
		v.waitLine(`dropped the rest of an interrupted restore: ["sov restore: new 0"]`)
		if got := ask(v, "SELECT count(*) FROM pg_database WHERE datname LIKE 'sov restore%'"); got != "0" {
			t.Errorf("%s databases of the restore are left", got)
		}
		v.shutDown()
	})

	t.Run("a stop during crash recovery", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		ask(v, "CREATE TABLE kept AS SELECT generate_series(1, 200000) n")
		must(t, v.cmd.Process.Kill())
		v.wantEnd(syscall.SIGKILL)
		v = b.boot(t)
		v.waitLine("automatic recovery in progress")
		v.shutDown()
		b.wantCleanDisk(t)
		v = b.boot(t)
		v.waitReady()
		if got := ask(v, "SELECT count(*) FROM kept"); got != "200000" {
			t.Errorf("%s rows", got)
		}
		v.shutDown()
	})

	t.Run("deleted data give their room back", func(t *testing.T) {
		allocated := func() int64 {
			var s syscall.Stat_t
			must(t, syscall.Stat(b.data, &s))
			return s.Blocks * 512
		}
		v := b.boot(t)
		v.waitReady()
		v.waitLine("data disk trimmed")
		if out, err := v.run("/bin/sh", "-c", "head -c 100M /dev/urandom >/data/large; sync; du -k /data/large"); err != nil {
			t.Fatal(out)
		}
		full := allocated()
		if out, err := v.run("/bin/rm", "/data/large"); err != nil {
			t.Fatal(out)
		}
		v.shutDown()
		v = b.boot(t)
		v.waitReady()
		v.waitLine("data disk trimmed")
		v.shutDown()
		if now := allocated(); full-now < 90<<20 {
			t.Errorf("the disk's file takes %d MiB after 100 MiB were deleted, and took %d", now>>20, full>>20)
		}
		b.wantCleanDisk(t)
	})

	t.Run("no memory for the workers of an index build", func(t *testing.T) {
		b.spec.Services[0].Tmpfs[0].Size = "1114112" // a machine with 128 MiB has 64 MiB, some of it in use
		defer func() { b.spec.Services[0].Tmpfs[0].Size = "" }()
		v := b.boot(t)
		v.waitReady()
		pid := v.service("postgres").PID
		ask(v, "CREATE TABLE wide AS SELECT n, repeat('x', 100) t FROM generate_series(1, 100000) n; ALTER TABLE wide SET (parallel_workers = 4)")
		_, err := v.query(password, "SET max_parallel_maintenance_workers = 4; SET maintenance_work_mem = '256MB'; CREATE INDEX ON wide (t, n)")
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "53100" || !strings.Contains(refused.Message, "No space left on device") {
			t.Errorf("the index: %v", err)
		}
		if got := ask(v, "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM wide"); got != "100000" || v.service("postgres").PID != pid || strings.Contains(v.text(), "terminated by signal") {
			t.Errorf("%s rows: the server crashed", got)
		}
		v.shutDown()
	})

	t.Run("an archive command that hangs", func(t *testing.T) {
		v := b.boot(t)
		v.waitReady()
		alter(v, "archive_mode = on", "archive_command = 'echo archiving >&2; sleep 10000'")
		v.shutDown()
		v = b.boot(t)
		v.waitReady()
		ask(v, "CREATE TABLE archived (n int)")
		ask(v, "SELECT pg_switch_wal()")
		v.waitLine("out postgres: archiving")
		began := time.Now()
		v.shutDown()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the machine took %v to stop", took)
		}
		b.wantCleanDisk(t)
		v = b.boot(t)
		v.waitReady()
		if strings.Contains(v.text(), "was not properly shut down") {
			t.Error("the server had to recover from its stop")
		}
		v.shutDown()
	})
}
