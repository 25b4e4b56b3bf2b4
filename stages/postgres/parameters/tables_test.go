//go:build linux

package parameters

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the tables of the servers that are found")
	root   = flag.String("root", "", "a root file system with a server, such as unpacked packages of another Debian, with a /dev/null, a /bin/sh, a /tmp and the user nobody")
)

// A server is a PostgreSQL whose programs run as an unprivileged user, in another root if root is
// not empty.
type server struct {
	bin, root, dir string // dir is writable and visible inside root
	major          int
}

const uid = 65534 // of the user nobody

// findServers returns the servers in -root, or those of this computer.
func findServers(t *testing.T) []*server {
	t.Helper()
	dirs, _ := filepath.Glob(*root + "/usr/lib/postgresql/*/bin/postgres")
	if len(dirs) == 0 || os.Geteuid() != 0 {
		t.Skip("needs root and a PostgreSQL server in /usr/lib/postgresql (apt install postgresql)")
	}
	var list []*server
	for _, path := range dirs {
		bin := strings.TrimPrefix(filepath.Dir(path), *root)
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp(*root+"/tmp", "pg")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
		s := &server{bin: bin, root: *root, dir: strings.TrimPrefix(dir, *root), major: major}
		if out, err := s.command("initdb", "-D", s.dir+"/data", "--no-sync", "--auth=trust", "--username=postgres", "--locale=C").CombinedOutput(); err != nil {
			t.Fatalf("initdb: %v: %s", err, out)
		}
		list = append(list, s)
	}
	return list
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(s.bin+"/"+name, args...)
	c.Path = s.bin + "/" + name
	c.Dir, c.Env = "/", []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Chroot: s.root}
	return c
}

// takes reports whether the server accepts a value at its start.
func (s *server) takes(name, value string) bool {
	return s.command("postgres", "-D", s.dir+"/data", "-C", name, "-c", name+"="+value).Run() == nil
}

// hidden are parameters that some versions have and pg_settings does not list.
var hidden = []string{"default_with_oids", "force_parallel_mode", "seed", "sort_mem", "ssl_renegotiation_limit", "vacuum_mem"}

// words are values that enums may accept and pg_settings does not list.
var words = []string{"0", "1", "archive", "debug", "fatal", "hot_standby", "info", "false", "no", "off", "on", "panic", "true", "yes"}

// table returns the server's table.
func (s *server) table(t *testing.T) string {
	t.Helper()
	c := s.command("postgres", "--single", "-D", s.dir+"/data", "postgres")
	const columns = "name, CASE context WHEN 'internal' THEN 'internal' ELSE vartype END, coalesce(unit, ''), " +
		"coalesce(min_val, ''), coalesce(max_val, ''), coalesce(array_to_string(enumvals, ','), '')"
	c.Stdin = strings.NewReader("COPY (SELECT " + columns + " FROM pg_settings WHERE name NOT LIKE '%.%') TO '" + s.dir + "/table'\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(s.root + s.dir + "/table")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		keep := f[:2]
		switch f[1] { // an enum's other values follow those of pg_settings
		case "enum":
			values := strings.Split(f[5], ",")
			for _, word := range words {
				// Trying all of them takes minutes.
				if *update && !slices.Contains(values, word) && s.takes(f[0], word) {
					values = append(values, word)
				}
			}
			keep = append(keep, strings.Join(values, ","))
		case "integer", "real":
			keep = f[:5]
		}
		lines = append(lines, strings.Join(keep, "\t"))
	}
	for _, name := range hidden {
		if s.command("postgres", "-D", s.dir+"/data", "-C", name).Run() == nil {
			lines = append(lines, name+"\thidden")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestTables compares the tables with the servers that are found, and writes them with -update:
//
//	go test ./stages/postgres/parameters -run TestTables -update -root DIR
func TestTables(t *testing.T) {
	for _, s := range findServers(t) {
		if !slices.Contains(majors, s.major) {
			continue
		}
		path := fmt.Sprintf("%d.tsv", s.major)
		got := s.table(t)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(got) {
			if !strings.Contains("\n"+string(want), "\n"+strings.TrimSuffix(line, "\n")) {
				t.Errorf("%s is not the table of this server, which has %q; write it with -update", path, line)
			}
		}
	}
}

// TestAgreesWithServer compares the verdicts on values with unusual spelling with those of real
// servers.
func TestAgreesWithServer(t *testing.T) {
	values := map[string][]string{
		"jit":                          {"of", "o", "TRUE", "ye", "2", ""},
		"shared_buffers":               {"300MB", "300mb", " 1 GB ", "0x4000", "040000", "1.5GB", "1e3MB", "15", "1TB1", "MB", "1_000", "130kB"},
		"statement_timeout":            {"5 minutes", "1.5s", "500us", "100000d"},
		"checkpoint_completion_target": {".5", "5e-1", "nan", "0x1", "90%"},
		"autovacuum_vacuum_cost_delay": {"2ms", "1500us", "-1", "1s", "101"},
		"wal_level":                    {"Logical", "hot_standby", "full", ""},
		"max_connections":              {"20", "20MB", "1e2", "0"},
		"log_min_messages":             {"debug", "WARNING", "warn"},
	}
	for _, s := range findServers(t) {
		for name, list := range values {
			for _, value := range list {
				faults, err := Check(s.major, map[string]string{name: value})
				if err != nil {
					t.Fatal(err)
				}
				if takes := s.takes(name, value); takes != (len(faults) == 0) {
					t.Errorf("PostgreSQL %d takes %s = %q: %t; here: %v", s.major, name, value, takes, faults)
				}
			}
		}
	}
}
