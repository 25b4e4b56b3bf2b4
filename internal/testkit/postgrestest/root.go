//go:build linux

package postgrestest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/mirror"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
)

// Majors lists the major versions in Root, in ascending order: those of three Debian releases.
var Majors = []string{"13", "15", "17"}

// Bin returns the folder of a major version's programs in Root.
func Bin(major string) string { return "/usr/libexec/postgresql" + major }

// Root unpacks a root file system with servers of all Majors, with contrib, which run on one libc,
// and the extension vector for the newest. The user postgres has the ID 70 and owns
// /run/postgresql; /data is in memory. Root removes the file system at the end of the test. It
// skips the test without root or Debian's packages.
func Root(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run servers of several major versions in a root file system of their own")
	}
	m := mirrortest.StartWith(t, mirror.Options{Arches: []string{runtime.GOARCH}, Release: "trixie", Beside: []string{"bookworm", "bullseye"},
		Add: []string{"postgresql-17-pgvector"}})
	packages, err := filepath.Glob(filepath.Join(m.Folder(), "*.apk"))
	must(t, err)
	root, err := os.MkdirTemp("", "pgroot") // not t.TempDir: other users must have access
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	for _, file := range packages {
		if out, err := exec.Command("tar", "-xzf", file, "-C", root, "--exclude=.PKGINFO", "--exclude=.SIGN.*", "--exclude=.pre-*", "--exclude=.post-*").CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v\n%s", file, err, out)
		}
	}
	for _, dir := range []string{"proc", "tmp", "dev", "data", "run/postgresql", "etc/sov"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	// Memory does not wait for a disk.
	must(t, unix.Mount("tmpfs", filepath.Join(root, "data"), "tmpfs", 0, "size=1g,mode=0755"))
	t.Cleanup(func() { unix.Unmount(filepath.Join(root, "data"), unix.MNT_DETACH) })
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	must(t, os.Chown(filepath.Join(root, "run/postgresql"), 70, 70))
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "random": 8, "urandom": 9} {
		must(t, unix.Mknod(filepath.Join(root, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))))
		must(t, os.Chmod(filepath.Join(root, "dev", name), 0o666))
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/:/bin/sh\n", "group": "root:x:0:\npostgres:x:70:\n",
	} {
		must(t, os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644))
	}
	return root
}
