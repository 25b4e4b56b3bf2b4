package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/ext4"
	"github.com/sovereign-sql/sov/internal/localvm"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// TestFirstAndLaterStarts takes a machine through its life: the first start on an empty data disk with the clock chip
// at the epoch, an orderly end, a second start that finds everything, and the power button.
func TestFirstAndLaterStarts(t *testing.T) {
	for _, arch := range []string{"arm64", "amd64"} {
		t.Run(arch, func(t *testing.T) {
			options := localvm.Options{Artifact: artifact(t, arch), State: t.TempDir(), ClockChip: time.Unix(0, 0)}

			first := boot(t, options)
			checkServer(t, first)
			checkMounts(t, first)
			checkClock(t, first)
			checkPassword(t, first)
			checkTailscale(t, first)
			identity := first.one(t, "select system_identifier from pg_control_system()")
			first.ask(t, "create table kept (n int); insert into kept values (42)")
			first.shutDown(t)
			if log := first.log(t); !strings.Contains(log, "database system is shut down") {
				t.Errorf("PostgreSQL was not stopped in order:\n%s", log)
			}
			first.powerCut(t) // gives the data free
			fsck(t, filepath.Join(options.State, "data.img"))

			second := boot(t, options)
			if got := second.one(t, "select n from kept"); got != "42" {
				t.Errorf("the row is %s after a restart, want 42", got)
			}
			if got := second.one(t, "select system_identifier from pg_control_system()"); got != identity {
				t.Error("a later start made another cluster")
			}
			if err := second.PowerButton(t.Context()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-second.Done():
			case <-time.After(2 * time.Minute):
				t.Fatalf("the power button did nothing for 2 minutes\n%s", second.log(t))
			}
			if err := second.Wait(); err != nil {
				t.Errorf("power button: %v", err)
			}
		})
	}
}

func checkServer(t *testing.T, g *guest) {
	t.Helper()
	for setting, want := range map[string]string{
		"dynamic_shared_memory_type": "mmap",
		"password_encryption":        "scram-sha-256",
		"fsync":                      "on",
		"full_page_writes":           "on",
		"data_directory":             "/data/postgres",
		"server_encoding":            "UTF8",
	} {
		if got := g.one(t, "show "+setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	// A parallel query is what dynamic shared memory is for.
	plan := strings.Join(g.ask(t, `create table numbers as select generate_series(1, 200000) as n;
		set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
		explain (analyze, costs off, timing off) select sum(n) from numbers; drop table numbers`), "\n")
	if !strings.Contains(plan, "Workers Launched: 2") {
		t.Errorf("no parallel workers:\n%s", plan)
	}
	// Text sorts by language: a locale that compares bytes would put Z before a.
	if got := g.one(t, `select string_agg(w, ' ' order by w collate "und-x-icu") from unnest(array['Zebra', 'äpfel', 'apple']) w`); got != "äpfel apple Zebra" {
		t.Errorf("sorted: %s", got)
	}
}

func checkMounts(t *testing.T, g *guest) {
	t.Helper()
	mounts := make(map[string][]string)
	for _, line := range g.shell(t, "cat /proc/mounts") {
		fields := strings.Fields(line)
		mounts[fields[1]] = fields
	}
	for path, want := range map[string]struct{ kind, option string }{
		"/":                          {"ext4", "ro"},
		"/data":                      {"ext4", "rw"},
		"/run":                       {"tmpfs", "rw"},
		"/tmp":                       {"tmpfs", "rw"},
		"/dev/shm":                   {"tmpfs", "rw"},
		"/data/postgres/pg_dynshmem": {"tmpfs", "rw"},
	} {
		fields, ok := mounts[path]
		if !ok {
			t.Errorf("%s is not mounted", path)
			continue
		}
		if fields[2] != want.kind || !slices.Contains(strings.Split(fields[3], ","), want.option) {
			t.Errorf("%s is %s with %s, want %s with %s", path, fields[2], fields[3], want.kind, want.option)
		}
	}
	if got := g.shell(t, "stat -c %a /dev/shm"); !slices.Equal(got, []string{"1777"}) {
		t.Errorf("/dev/shm has mode %v, want 1777", got)
	}
	if got := g.shell(t, "cat /proc/1/comm"); !slices.Equal(got, []string{"sov-init"}) {
		t.Errorf("process 1 is %v", got)
	}
	if got := g.shell(t, "hostname"); !slices.Equal(got, []string{"sovereign-sql"}) {
		t.Errorf("the host name is %v", got)
	}
}

// checkClock: the clock chip said 1970, the config disk knows better.
func checkClock(t *testing.T, g *guest) {
	t.Helper()
	status, err := g.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(status.Time).Abs(); off > time.Minute {
		t.Errorf("the guest's clock is off by %v", off)
	}
}

// checkPassword: the network has SCRAM and nothing else.
func checkPassword(t *testing.T, g *guest) {
	t.Helper()
	for _, password := range []string{"", "wrong"} {
		config, err := pgconn.ParseConfig("postgresql://postgres@" + g.Address() + "/postgres?sslmode=disable&passfile=/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		config.Password = password
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn, err := pgconn.ConnectConfig(ctx, config)
		cancel()
		if err == nil {
			conn.Close(t.Context())
			t.Errorf("password %q opens a session", password)
		}
	}
	if got := g.one(t, "select count(*) from pg_hba_file_rules where auth_method not in ('scram-sha-256', 'peer')"); got != "0" {
		t.Errorf("%s access rules let in without SCRAM or peer", got)
	}
}

// checkTailscale: daemon and command line are one program, and it runs on the guest's processor.
func checkTailscale(t *testing.T, g *guest) {
	t.Helper()
	version := g.shell(t, "tailscale version")
	if len(version) == 0 || "v"+version[0] != tailscale.Version() {
		t.Errorf("tailscale says it is %v, want %s", version, tailscale.Version())
	}
	if got := g.shell(t, "tailscaled --version"); !slices.Equal(got, version) {
		t.Errorf("tailscaled says it is %v, tailscale %v", got, version)
	}
}

// TestKernelReadsWhatWeWrote compares every file of the root filesystem as the guest's kernel reads it with what our
// own reader finds in the image.
func TestKernelReadsWhatWeWrote(t *testing.T) {
	dir := artifact(t, "arm64")
	g := boot(t, localvm.Options{Artifact: dir, State: t.TempDir()})
	got := make(map[string]string)
	for _, line := range g.shell(t, "find / -xdev -type f -exec sha256sum {} + 2>/dev/null; true") {
		sum, name, ok := strings.Cut(line, "  ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		got[name] = sum
	}
	want := imageSums(t, filepath.Join(dir, "rootfs.img"))
	for name, sum := range got {
		if want[name] != sum {
			t.Errorf("%s: the kernel reads %s, the image holds %q", name, sum, want[name])
		}
	}
	// The database's user may not read everything: /etc/shadow and the like.
	if len(want)-len(got) > 10 {
		t.Errorf("the guest read %d files of %d", len(got), len(want))
	}
	t.Logf("%d files are the same", len(got))
}

func imageSums(t *testing.T, path string) map[string]string {
	t.Helper()
	image, err := ext4.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	sums := make(map[string]string)
	err = fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := image.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		sums["/"+name] = fmt.Sprintf("%x", hash.Sum(nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// TestPackageToolsAgree asks the guest's own apk about what was installed from outside.
func TestPackageToolsAgree(t *testing.T) {
	g := boot(t, localvm.Options{Artifact: artifact(t, "arm64"), State: t.TempDir()})
	if len(g.shell(t, "command -v apk || true")) == 0 {
		t.Skip("the base image has no apk: ../shared/alpine (or $SOV_ALPINE_FIXTURES) is absent")
	}
	listed := g.shell(t, "apk info 2>/dev/null | sort")
	for _, name := range []string{"alpine-baselayout", "postgresql15", "busybox"} {
		if !slices.Contains(listed, name) {
			t.Errorf("apk does not list %s: %v", name, listed)
		}
	}
	// What the recipe adds beside packages shows up in an audit; a file that a package owns and that differs (U), or
	// is gone (X), must not. /etc/shadow and what else the database's user may not read cannot be judged (e).
	for _, line := range g.shell(t, "apk audit --system 2>/dev/null || true") {
		if strings.HasPrefix(line, "U ") || strings.HasPrefix(line, "X ") {
			t.Errorf("apk audit: %s", line)
		}
	}
}
