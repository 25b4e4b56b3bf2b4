package postgres

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sqlRecipe(t *testing.T) *recipe.Recipe {
	t.Helper()
	text, err := assets.Recipe("sql")
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse("sql.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// golden compares text for users with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", name, diff)
	}
}

func TestConfiguration(t *testing.T) {
	r := sqlRecipe(t)
	r.Postgres.Networks = append(r.Postgres.Networks, "10.1.2.3/8")
	r.Postgres.Settings = map[string]recipe.Setting{"max_connections": "20", "shared_buffers": "64MB", "pg_trgm.similarity_threshold": "0.4",
		"application_name": `it's a \ test`}
	values := (&stage{Options{Recipe: r}}).values(&Server{AuthDelay: true, TLS: true})
	golden(t, "postgresql.conf", render(assets.PostgresConf, values))
	clients, err := access{tls: true}.hba(r)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pg_hba.conf", clients)
	golden(t, "pg_ident.conf", ident(recipe.Postgres{User: "postgres"}))
	if strings.Contains(clients, "trust") {
		t.Error("pg_hba.conf has a trust line")
	}
}

func TestService(t *testing.T) {
	s := &stage{Options{Recipe: sqlRecipe(t)}}
	service, err := s.service(&Server{Dir: "/usr/libexec/postgresql17", Major: 17, Version: "17.6", ICU: true, TLS: true, Sorting: "5o47"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := guestinit.EncodeService(service, nil)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "postgres.json", string(text))
	s.Recipe.Postgres.Roles = []recipe.Role{{Name: "app", Database: "shop"}, {Name: "admin", Database: "admin", Superuser: true}}
	s.Recipe.Volumes = []recipe.Volume{{Name: "fast", Path: "/srv/fast"}, {Name: "media", Path: "/srv/media"}}
	s.Recipe.Services = []recipe.Service{{Name: "gallery", Directories: []recipe.Directory{{Path: "/srv/media"}}}}
	if service, err = s.service(&Server{Dir: "/server", Major: 17, ICU: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/data", "/srv/fast"}, service.Rights.Write[:2]); diff != "" { // tablespaces may be on a volume without another owner
		t.Errorf("it may write (-want +got)\n%s", diff)
	}
	var steps []string
	for _, step := range service.PostReady {
		steps = append(steps, strings.Join(step.Command, " ")+" < "+step.Secret)
	}
	const socket = " --socket=/run/postgresql/.s.PGSQL.5432 "
	want := []string{
		"/sbin/sov-init postgres-role" + socket + "--role=postgres < postgres",
		"/sbin/sov-init postgres-account" + socket + "--role=app --database=shop < ",
		"/sbin/sov-init postgres-role" + socket + "--role=app < role-app",
		"/sbin/sov-init postgres-account" + socket + "--role=admin --database=admin --superuser < ",
		"/sbin/sov-init postgres-role" + socket + "--role=admin < role-admin",
		"/sbin/sov-init postgres-extension" + socket + "--name=pg_stat_statements --database=app < ",
		"/sbin/sov-init postgres-settled" + socket + "--data=/data/postgres < ",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps (-want +got)\n%s", diff)
	}
}

func TestMemorySettings(t *testing.T) {
	for _, tt := range []struct {
		memory, data recipe.Size
		want         string
	}{
		{recipe.GiB, 8 * recipe.GiB, "256MB 512MB 4MB 64MB 1024MB 128MB"},
		{128 * recipe.MiB, 256 * recipe.MiB, "32MB 64MB 2MB 8MB 64MB 32MB"},
		{8 * recipe.GiB, 8 * recipe.GiB, "2048MB 4096MB 32MB 512MB 1024MB 128MB"},
	} {
		s := memorySettings(tt.memory, tt.data)
		got := strings.Join([]string{s["shared_buffers"], s["effective_cache_size"], s["work_mem"],
			s["maintenance_work_mem"], s["max_wal_size"], s["min_wal_size"]}, " ")
		if got != tt.want {
			t.Errorf("%s memory, %s data: got %s, want %s", tt.memory, tt.data, got, tt.want)
		}
	}
}

func TestCollation(t *testing.T) {
	for _, tt := range []struct {
		major  int
		icu    bool
		choice string
		want   string // provider, or a part of the error
	}{
		{18, true, "auto", "--locale-provider=builtin"}, {17, false, "auto", "--locale-provider=builtin"},
		{16, true, "auto", "--locale-provider=icu"}, {15, true, "auto", "--locale-provider=icu"},
		{16, false, "auto", "--locale=C"}, {14, true, "auto", "--locale=C"},
		{17, true, "icu", "--locale-provider=icu"}, {17, true, "libc", "--locale=C"},
		{16, true, "builtin", "from version 17"}, {14, true, "icu", "needs PostgreSQL 15"}, {17, false, "icu", "without ICU"},
		{17, true, "de", "--locale-provider=icu --icu-locale=de --locale=C"}, {16, true, "en-US-u-kn-true", "--icu-locale=en-US-u-kn-true"},
		{17, false, "de", "without ICU"}, {14, true, "en-US", "needs PostgreSQL 15"}, {17, true, "icu", "--icu-locale=und"},
	} {
		got, err := (&Server{Major: tt.major, ICU: tt.icu}).collation(tt.choice)
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, tt.want) {
			t.Errorf("%d, ICU %v, %s: got %s, want %s", tt.major, tt.icu, tt.choice, text, tt.want)
		}
	}
}

// install puts a server's two programs into a tree.
func install(t *testing.T, into *tree.Tree, dir, binary string) {
	t.Helper()
	for name, content := range map[string]string{"postgres": binary, "initdb": "#!"} {
		n := &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Bytes([]byte(content))}
		if err := into.Put(dir+"/"+name, n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFindServer(t *testing.T) {
	far := strings.Repeat("x", 1<<20-10) // across two windows
	tests := []struct {
		name    string
		servers map[string]string // content of the binary by directory
		want    Server            // Major 0: an error
	}{
		{"none", nil, Server{}},
		{"alpine", map[string]string{"usr/libexec/postgresql17": far + "postgres (PostgreSQL) 17.6\n\x00ucol_open_76\x00SSL_CTX_use_certificate_chain_file\x00"},
			Server{"/usr/libexec/postgresql17", 17, "17.6", true, false, true, "", nil}},
		{"debian", map[string]string{"usr/lib/postgresql/15/bin": "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"},
			Server{"/usr/lib/postgresql/15/bin", 15, "15.18", false, false, false, "", nil}},
		{"two of one major", map[string]string{"usr/libexec/postgresql18": "postgres (PostgreSQL) 18.1\n", "usr/local/bin": "postgres (PostgreSQL) 18rc1\n"},
			Server{"/usr/libexec/postgresql18", 18, "18.1", false, false, false, "", nil}},
		{"not PostgreSQL", map[string]string{"usr/bin": "an impostor"}, Server{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree.New()
			for dir, binary := range tt.servers {
				install(t, root, dir, binary)
			}
			got, err := findServer(root, recipe.Postgres{})
			if tt.want.Major == 0 {
				if err == nil {
					t.Errorf("found %+v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *got != tt.want {
				t.Errorf("got %+v, want %+v", *got, tt.want)
			}
		})
	}
	for name, tt := range map[string]struct {
		recipe recipe.Postgres
		want   string // "NEW OLD", or a part of the error
	}{
		"two by mistake":        {recipe.Postgres{}, "sov lock RECIPE --why postgresql16"},
		"two, and one pinned":   {recipe.Postgres{Major: 17}, "sov lock RECIPE --why postgresql16"},
		"pinned to another":     {recipe.Postgres{Major: 18}, "postgres.major is 18, and the machine has PostgreSQL 17.6"},
		"an upgrade":            {recipe.Postgres{Major: 17, UpgradeFrom: 16}, "17 16"},
		"an upgrade of another": {recipe.Postgres{Major: 17, UpgradeFrom: 15}, "leave one out"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree.New()
			install(t, root, "usr/libexec/postgresql17", "postgres (PostgreSQL) 17.6\n")
			install(t, root, "usr/libexec/postgresql16", "postgres (PostgreSQL) 16.10\n")
			got := ""
			if s, err := findServer(root, tt.recipe); err != nil {
				got = err.Error()
			} else if s.Old != nil {
				got = fmt.Sprint(s.Major, s.Old.Major)
				const serve = "/sbin/sov-init postgres-serve --data=/data/pg --bin=/usr/libexec/postgresql17 --old-bin=/usr/libexec/postgresql16 -- -D /data/pg "
				if command := strings.Join(s.command("/data/pg", nil), " "); !strings.HasPrefix(command, serve) {
					t.Errorf("the server is started by %s", command)
				}
				if step := s.upgrade(recipe.Postgres{Data: "/data/pg", User: "postgres"}); !slices.Contains(step, "--old-bin=/usr/libexec/postgresql16") {
					t.Errorf("it is upgraded by %q", step)
				}
				if step := collationStep(s, recipe.Postgres{}).Command; !slices.Contains(step, "--old-bin=/usr/libexec/postgresql16") {
					t.Errorf("its indexes are looked at by %q", step)
				}
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	for dir, library := range map[string]string{
		"usr/libexec/postgresql17": "usr/lib/postgresql17", "usr/lib/postgresql/17/bin": "usr/lib/postgresql/17/lib", "usr/local/bin": "usr/local/lib/postgresql",
	} {
		t.Run("contrib of "+dir, func(t *testing.T) {
			root := tree.New()
			install(t, root, dir, "postgres (PostgreSQL) 17.6\n")
			for _, of := range []string{"usr/lib/postgresql16", library} { // the first belongs to another server
				if got, err := findServer(root, recipe.Postgres{}); err != nil || got.AuthDelay {
					t.Errorf("without: %+v, %v", got, err)
				}
				if err := root.Put(of+"/auth_delay.so", &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Bytes(nil)}); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := findServer(root, recipe.Postgres{}); err != nil || !got.AuthDelay {
				t.Errorf("with it: %+v, %v", got, err)
			}
		})
	}
	t.Run("not executable", func(t *testing.T) {
		root := tree.New()
		install(t, root, "usr/bin", "postgres (PostgreSQL) 17.6\n")
		n, _ := root.Lookup("usr/bin/postgres")
		n.Mode &^= 0o111
		if got, err := findServer(root, recipe.Postgres{}); err == nil {
			t.Errorf("found %+v", got)
		}
	})
}

// serverDir returns the directory of an installed server, or skips the test.
func serverDir(t *testing.T) string {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is well formed
	if len(dirs) == 0 {
		t.Skip("no PostgreSQL server is installed in /usr/lib/postgresql")
	}
	return filepath.Dir(dirs[0])
}

func TestIdentifyRealServer(t *testing.T) {
	dir := serverDir(t)
	f, err := os.Open(filepath.Join(dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := identify(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(out), "postgres (PostgreSQL) "+got.Version) || !got.ICU {
		t.Errorf("found %+v, it says %s", got, out)
	}
}

// readableDir returns a temporary directory that other users can read. They cannot read the parent
// of t.TempDir.
func readableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sov-postgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRealServerTakesTheConfiguration starts a server with the generated files. It refuses unknown
// parameters and values.
func TestRealServerTakesTheConfiguration(t *testing.T) {
	dir := serverDir(t)
	if os.Getuid() == 0 {
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Skip("setpriv is not installed, and PostgreSQL refuses to run as root")
		}
	}
	r := sqlRecipe(t)
	r.Postgres.Settings = map[string]recipe.Setting{"application_name": `it's a \ test`}
	work := readableDir(t)
	values := settings(r)
	values["data_directory"] = quote(work)
	conf := filepath.Join(work, "postgresql.conf")
	if err := os.WriteFile(conf, []byte(render(assets.PostgresConf, values)), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"fsync": "on", "dynamic_shared_memory_type": "mmap", "shared_buffers": "32768",
		"listen_addresses": "*", "application_name": `it's a \ test`, "password_encryption": "scram-sha-256"} {
		args := []string{filepath.Join(dir, "postgres"), "-C", name, "-c", "config_file=" + conf}
		if os.Getuid() == 0 {
			args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
		}
		var stderr bytes.Buffer
		c := exec.Command(args[0], args[1:]...)
		c.Stderr = &stderr
		out, err := c.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: got %q, want %q; %v\n%s", name, got, want, err, &stderr)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("postgres (PostgreSQL) 17.6\n\x00ucol_open_76"))
	f.Add([]byte("postgres (PostgreSQL) 999.999.999 "))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		if s, err := identify(bytes.NewReader(b)); err == nil && (s.Major <= 0 || s.Version == "") {
			t.Errorf("found %+v", s)
		}
	})
}
