package guest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// TestFirstAndLaterStarts starts a machine with an empty data disk and with the clock chip at the
// epoch, and shuts it down cleanly. It starts the machine again, which must have kept its data, and
// presses the power button.
func TestFirstAndLaterStarts(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"arm64", "amd64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			options := localvm.Options{Artifact: sovtest.Artifact(t, arch), State: t.TempDir(), ClockChip: time.Unix(0, 0)}

			first := guesttest.Boot(t, options)
			checkServer(t, first)
			checkMounts(t, first)
			checkClock(t, first)
			checkPassword(t, first)
			checkTailscale(t, first)
			checkHardening(t, first)
			checkAbsentCalls(t, first, arch)
			identity := first.One(t, "select system_identifier from pg_control_system()")
			first.Ask(t, "create table kept (n int); insert into kept values (42)")
			first.Stop(t)
			if log := first.Log(t); !strings.Contains(log, "database system is shut down") {
				t.Errorf("PostgreSQL was not stopped in order:\n%s", log)
			}
			first.CutPower(t) // releases the data disk
			guesttest.Fsck(t, filepath.Join(options.State, "data.img"))

			second := guesttest.Boot(t, options)
			if got := second.One(t, "select n from kept"); got != "42" {
				t.Errorf("the row is %s after a restart, want 42", got)
			}
			if got := second.One(t, "select system_identifier from pg_control_system()"); got != identity {
				t.Error("a later start made another cluster")
			}
			if err := second.PowerButton(t.Context()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-second.Done():
			case <-time.After(5 * time.Minute):
				t.Fatalf("the power button did nothing for 5 minutes\n%s", second.Log(t))
			}
			if err := second.Wait(); err != nil {
				t.Errorf("power button: %v", err)
			}
		})
	}
}

func checkServer(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	for setting, want := range map[string]string{
		"dynamic_shared_memory_type": "mmap",
		"password_encryption":        "scram-sha-256",
		"fsync":                      "on",
		"full_page_writes":           "on",
		"data_directory":             "/data/postgres",
		"server_encoding":            "UTF8",
	} {
		if got := g.One(t, "show "+setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	// A parallel query needs dynamic shared memory.
	plan := strings.Join(g.Ask(t, `create table numbers as select generate_series(1, 200000) as n;
		set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
		explain (analyze, costs off, timing off) select sum(n) from numbers; drop table numbers`), "\n")
	if !strings.Contains(plan, "Workers Launched: 2") {
		t.Errorf("no parallel workers:\n%s", plan)
	}
	// Text sorts by language. A locale that compares bytes would put Z before a.
	if got := g.One(t, `select string_agg(w, ' ' order by w collate "und-x-icu") from unnest(array['Zebra', 'äpfel', 'apple']) w`); got != "äpfel apple Zebra" {
		t.Errorf("sorted: %s", got)
	}
}

func checkMounts(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	mounts := make(map[string][]string)
	for _, line := range g.Shell(t, "cat /proc/mounts") {
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
	if got := g.Shell(t, "stat -c %a /dev/shm"); !slices.Equal(got, []string{"1777"}) {
		t.Errorf("/dev/shm has mode %v, want 1777", got)
	}
	if got := g.Shell(t, "cat /proc/1/comm"); !slices.Equal(got, []string{"sov-init"}) {
		t.Errorf("process 1 is %v", got)
	}
	if got := g.Shell(t, "hostname"); !slices.Equal(got, []string{"sovereign-sql"}) {
		t.Errorf("the host name is %v", got)
	}
}

// checkClock checks that the guest uses the time of the config disk instead of its clock chip's
// 1970.
func checkClock(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	status, err := g.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(status.Time).Abs(); off > time.Minute {
		t.Errorf("the guest's clock is off by %v", off)
	}
}

// checkPassword checks that the network accepts only SCRAM with the right password.
func checkPassword(t *testing.T, g *guesttest.Guest) {
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
	if u, err := url.Parse(g.URL()); err != nil || u.Query().Get("sslmode") != "verify-full" {
		t.Errorf("%s does not verify the database: %v", g.URL(), err)
	}
	if got := g.One(t, "select version from pg_stat_ssl where pid = pg_backend_pid() and ssl"); got != "TLSv1.3" {
		t.Errorf("the session is not encrypted: %q", got)
	}
	if got := g.One(t, "select count(*) from pg_hba_file_rules where auth_method not in ('scram-sha-256', 'peer', 'reject')"); got != "0" {
		t.Errorf("%s access rules let in without SCRAM or peer", got)
	}
}

// checkTailscale checks that tailscaled and tailscale are one program that runs on the guest's
// processor.
func checkTailscale(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	version := g.Shell(t, "tailscale version")
	if len(version) == 0 || "v"+version[0] != tailscale.Version() {
		t.Errorf("tailscale says it is %v, want %s", version, tailscale.Version())
	}
	if got := g.Shell(t, "tailscaled --version"); !slices.Equal(got, version) {
		t.Errorf("tailscaled says it is %v, tailscale %v", got, version)
	}
}

// TestRootFilesystem checks the root file system in a running guest.
func TestRootFilesystem(t *testing.T) {
	t.Parallel()
	dir := sovtest.Artifact(t, "arm64")
	g := guesttest.Boot(t, localvm.Options{Artifact: dir, State: guesttest.Seeded(t, "arm64")})
	image, err := ext4.OpenFile(filepath.Join(dir, "rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	t.Run("the kernel reads what we wrote", func(t *testing.T) { checkEntries(t, g, image) })
	t.Run("package tools agree", func(t *testing.T) { checkPackages(t, g, image) })
}

// checkEntries compares every entry of the root file system, as the guest's kernel reads it, with
// what our reader reads in the image: bytes, owner, mode, size, links, time, device and target.
func checkEntries(t *testing.T, g *guesttest.Guest, image *ext4.File) {
	t.Helper()
	sums := make(map[string]string)
	for _, line := range g.Shell(t, "find / -xdev -type f -exec sha256sum {} + 2>/dev/null; true") {
		sum, name, ok := strings.Cut(line, "  ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		sums[name] = sum
	}
	compareGuest(t, "bytes", sums, imageSums(t, image))

	stats := make(map[string]string)
	for _, line := range g.Shell(t, "find / -xdev -exec stat -c \"%f %u %g %s %h %Y %t %T %N\" {} + 2>/dev/null; true") {
		fields := strings.SplitN(line, " ", 9)
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[8], "'"), "' -> '")
		stats[name] = line
	}
	for _, line := range g.Shell(t, "cat /proc/mounts") {
		if point := strings.Fields(line)[1]; point != "/" {
			delete(stats, point) // stat reports what is mounted there, not what is in the image
		}
	}
	compareGuest(t, "attributes", stats, imageStats(t, image))
}

// compareGuest compares what the guest reads with what is in the image. The guest reads less: the
// database's user has no access to /root, /etc/shadow and similar files, and some directories of
// the image are mount points.
func compareGuest(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name, said := range got {
		if want[name] != said {
			t.Errorf("%s of %s: the kernel reads %q, the image holds %q", what, name, said, want[name])
		}
	}
	if len(want)-len(got) > 20 {
		t.Errorf("%s: the guest read %d entries of %d", what, len(got), len(want))
	}
	t.Logf("%s of %d entries are the same", what, len(got))
}

// imageStats returns what the guest's stat prints for each entry of an image.
func imageStats(t *testing.T, image *ext4.File) map[string]string {
	t.Helper()
	stats := make(map[string]string)
	err := fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := image.Lstat(name)
		if err != nil {
			return err
		}
		name = path.Join("/", name)
		shown := name
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := image.ReadLink(strings.TrimPrefix(name, "/"))
			if err != nil {
				return err
			}
			shown = "'" + name + "' -> '" + target + "'"
		}
		s := info.Sys().(*ext4.Stat)
		stats[name] = fmt.Sprintf("%x %d %d %d %d %d %x %x %s", s.Mode, s.UID, s.GID, info.Size(), s.Nlink, s.Mtime.Unix(), s.Major, s.Minor, shown)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func imageSums(t *testing.T, image *ext4.File) map[string]string {
	t.Helper()
	sums := make(map[string]string)
	err := fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
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

// checkPackages checks with the guest's apk the packages that sov has installed.
func checkPackages(t *testing.T, g *guesttest.Guest, image *ext4.File) {
	t.Helper()
	if len(g.Shell(t, "command -v apk || true")) == 0 {
		t.Skip("the base image has no apk: ../shared/alpine (or $SOV_ALPINE_FIXTURES) is absent")
	}
	root, err := image.Tree()
	if err != nil {
		t.Fatal(err)
	}
	installed, err := apk.Installed(root)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range installed {
		want = append(want, p.ID())
	}
	listed := g.Shell(t, "apk info -v 2>/dev/null")
	slices.Sort(want)
	slices.Sort(listed)
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("what apk lists is not what was installed (-want +got)\n%s", diff)
	}
	// apk audit reports files that belong to no package, such as the recipe's (A, d for folders).
	// Files that differ from their package (U), are missing (X) or have other permissions (M) are
	// errors. It cannot check /etc/shadow and other files that the database's user cannot read (e).
	ours := 0
	for _, line := range g.Shell(t, "apk audit --full --recursive --check-permissions 2>/dev/null || true") {
		switch {
		case line == "A sbin/sov-init":
			ours++
		case strings.HasPrefix(line, "U "), strings.HasPrefix(line, "X "), strings.HasPrefix(line, "M "):
			t.Errorf("apk audit: %s", line)
		}
	}
	if ours != 1 {
		t.Error("apk audit does not tell that sbin/sov-init is no package's: did it look at all?")
	}
}
