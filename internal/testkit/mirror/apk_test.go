package mirror_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
)

// alpineRoot unpacks the x86_64 minirootfs, in which Alpine's apk runs, and returns its folder.
func alpineRoot(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(mirrortest.Fixtures(), "alpine-minirootfs-*-x86_64.tar.gz"))
	if mirrortest.Fixtures() == "" || len(found) == 0 || os.Getuid() != 0 {
		t.Skip("needs root, and Alpine's x86_64 minirootfs in $SOV_ALPINE_FIXTURES or ../shared/alpine")
	}
	root := t.TempDir()
	run(t, "tar", "-xzf", found[0], "-C", root)
	return root
}

// run runs a program that must succeed and returns its output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inRoot runs a shell command in a root and returns its output.
func inRoot(t *testing.T, root, command string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "chroot", root, "/bin/sh", "-c", command))
}

// TestRealApkInstallsPostgres installs PostgreSQL in a real Alpine from the mirror, with signatures
// verified, and runs a query.
func TestRealApkInstallsPostgres(t *testing.T) {
	root := alpineRoot(t)
	m := mirrortest.Start(t, "amd64")
	key, err := os.ReadFile(m.KeyFiles[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"etc/apk/keys/" + filepath.Base(m.KeyFiles[0]): key,
		"etc/apk/repositories":                         []byte(strings.Join(m.Repositories(), "\n") + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "mknod", "-m", "666", filepath.Join(root, "dev/null"), "c", "1", "3")
	run(t, "mknod", "-m", "666", filepath.Join(root, "dev/urandom"), "c", "1", "9")

	t.Log(inRoot(t, root, "apk add postgresql postgresql-client postgresql-contrib icu-data-full e2fsprogs ca-certificates-bundle tzdata"))
	for command, want := range map[string]string{
		"id -u postgres": "70",
		"e2fsck -V 2>&1 | head -1 | cut -d' ' -f1":                                         "e2fsck",
		"apk info --who-owns /usr/libexec/postgresql15/psql | cut -d' ' -f5 | cut -d- -f2": "client",
		"apk audit --system | grep -v -E 'etc/|dev/|lib/apk' || echo unchanged":            "unchanged",
	} {
		if got := inRoot(t, root, command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	asPostgres := func(command string) string {
		return inRoot(t, root, `su postgres -s /bin/sh -c "cd /tmp && `+command+`"`)
	}
	if got := asPostgres("/usr/libexec/postgresql15/postgres --version"); !strings.HasPrefix(got, "postgres (PostgreSQL) 15.") {
		t.Errorf("postgres --version: %q", got)
	}
	asPostgres("/usr/libexec/postgresql15/initdb --pgdata /tmp/cluster --encoding UTF8 --locale C.UTF-8 --locale-provider icu --icu-locale und")
	answer := asPostgres(`echo 'create extension pg_trgm; create extension pgcrypto; select to_hex(length(gen_salt(\$\$bf\$\$))), now() at time zone \$\$Europe/Madrid\$\$ is not null as tz, \$\$a\$\$ < \$\$B\$\$ collate \"en-x-icu\" as icu' | /usr/libexec/postgresql15/postgres --single -D /tmp/cluster postgres`)
	for _, want := range []string{`to_hex = "1d"`, `tz = "t"`, `icu = "t"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("the server's answer lacks %s:\n%s", want, answer)
		}
	}
}
