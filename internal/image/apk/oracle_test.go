package apk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fixture returns the path of one of Alpine's release tarballs, or skips the test.
func fixture(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("SOV_ALPINE_FIXTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "alpine")
	}
	p := filepath.Join(dir, name)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("no %s (set SOV_ALPINE_FIXTURES)", p)
	}
	return p
}

const (
	minirootfsAMD64 = "alpine-minirootfs-3.20.3-x86_64.tar.gz"
	minirootfsARM64 = "alpine-minirootfs-3.20.3-aarch64.tar.gz"
)

// An oracle is an Alpine root file system on disk, in whose chroot the real apk runs.
type oracle struct{ root string }

var sharedOracle struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedOracle.dir != "" {
		os.RemoveAll(sharedOracle.dir)
	}
	os.Exit(code)
}

// newOracle returns the oracle that all tests share. Each test uses separate directories under
// root.
func newOracle(t testing.TB) *oracle {
	t.Helper()
	tarball := fixture(t, minirootfsAMD64)
	if os.Geteuid() != 0 {
		t.Skip("running apk in a chroot needs root")
	}
	sharedOracle.once.Do(func() {
		if sharedOracle.dir, sharedOracle.err = os.MkdirTemp("", "sov-apk-oracle-"); sharedOracle.err == nil {
			sharedOracle.err = extract(tarball, sharedOracle.dir)
		}
	})
	if sharedOracle.err != nil {
		t.Fatal(sharedOracle.err)
	}
	o := &oracle{sharedOracle.dir}
	if _, err := o.apk("--version"); err != nil {
		t.Skipf("apk does not run here: %v", err)
	}
	return o
}

func extract(tarball, dir string) error {
	if out, err := exec.Command("tar", "-xpf", tarball, "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// dir makes a directory under the oracle's root and returns its path in the chroot.
func (o *oracle) dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp(filepath.Join(o.root, "tmp"), "case-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(d, 0o755)
	t.Cleanup(func() { os.RemoveAll(d) })
	return "/tmp/" + filepath.Base(d)
}

// apk runs apk in the chroot and returns its output.
func (o *oracle) apk(args ...string) (string, error) { return runAPK(o.root, args...) }

func runAPK(root string, args ...string) (string, error) {
	cmd := exec.Command("/sbin/apk", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeFile writes a file under the oracle's root.
func (o *oracle) writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	p := filepath.Join(o.root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// changeLine matches a line of apk's report, such as "(1/3) Upgrading foo (1.0 -> 1.1)".
var changeLine = regexp.MustCompile(`(?m)^\(\d+/\d+\) (\w+) (\S+) \((.*)\)$`)

// simulate returns the changes that apk would make for world, one a line. With an error it returns
// apk's output.
func (o *oracle) simulate(t testing.TB, installed []*Package, world string, repos ...[]*Package) (string, error) {
	t.Helper()
	dir := o.dir(t)
	var db, list strings.Builder
	for _, p := range installed {
		p.writeFields(&db)
		db.WriteByte('\n')
	}
	for i, packages := range repos {
		repo := fmt.Sprintf("%s/repo%d", dir, i)
		o.writeFile(t, repo+"/x86_64/APKINDEX.tar.gz", indexFile(t, packages))
		list.WriteString(repo + "\n")
	}
	o.writeFile(t, dir+"/root/lib/apk/db/installed", []byte(db.String()))
	o.writeFile(t, dir+"/root/lib/apk/db/triggers", nil)
	o.writeFile(t, dir+"/root/lib/apk/db/scripts.tar", make([]byte, 1024))
	o.writeFile(t, dir+"/root/lib/apk/db/lock", nil)
	o.writeFile(t, dir+"/root/etc/apk/arch", []byte("x86_64\n"))
	o.writeFile(t, dir+"/root/etc/apk/world", []byte(strings.Join(strings.Fields(world), "\n")+"\n"))
	o.writeFile(t, dir+"/repositories", []byte(list.String()))
	out, err := o.apk("add", "--root", dir+"/root", "--simulate", "--allow-untrusted", "--no-network",
		"--repositories-file", dir+"/repositories")
	if err != nil {
		return out, err
	}
	var changes []string
	for _, m := range changeLine.FindAllStringSubmatch(out, -1) {
		changes = append(changes, fmt.Sprintf("%s %s %s", m[1], m[2], m[3]))
	}
	return strings.Join(changes, "\n"), nil
}

// report formats a solution as simulate does.
func report(s *Solution) string {
	var lines []string
	for _, p := range s.Remove {
		lines = append(lines, fmt.Sprintf("Purging %s %s", p.Name, p.Version))
	}
	for _, c := range s.Install {
		if c.Upgrades == nil {
			lines = append(lines, fmt.Sprintf("Installing %s %s", c.Name, c.Version))
			continue
		}
		verb := map[int]string{1: "Upgrading", -1: "Downgrading", 0: "Replacing"}[CompareVersions(c.Version, c.Upgrades.Version)]
		lines = append(lines, fmt.Sprintf("%s %s %s -> %s", verb, c.Name, c.Upgrades.Version, c.Version))
	}
	return strings.Join(lines, "\n")
}

var versionStart = regexp.MustCompile("-[0-9]")

// testPackage makes a package from a short description: "name-version key:value; key:value", with
// the keys of an index.
func testPackage(t testing.TB, s string) *Package {
	t.Helper()
	id, rest, _ := strings.Cut(s, " ")
	i := versionStart.FindStringIndex(id)[0]
	p := &Package{Name: id[:i], Version: id[i+1:], Arch: "x86_64", Size: 1000, InstalledSize: 4096, Description: "A test.", License: "MIT"}
	for _, field := range strings.Split(rest, ";") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		if _, err := p.setField(field[0], strings.TrimSpace(field[2:])); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	p.Checksum = SHA1Checksum(sha1.Sum([]byte(s)))
	return p
}

func testPackages(t testing.TB, lines ...string) []*Package {
	t.Helper()
	var all []*Package
	for _, l := range lines {
		all = append(all, testPackage(t, l))
	}
	return all
}

// indexFile writes an unsigned APKINDEX.tar.gz.
func indexFile(t testing.TB, packages []*Package) []byte {
	t.Helper()
	var text strings.Builder
	for _, p := range packages {
		p.writeFields(&text)
		text.WriteByte('\n')
	}
	return gzipTar(t, false, tarFile("DESCRIPTION", "test"), tarFile("APKINDEX", text.String()))
}

type tarEntry struct {
	tar.Header
	body string
}

func tarFile(name, body string) tarEntry {
	return tarEntry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(body))}, body}
}

// gzipTar packs entries. cut leaves out the blocks of zeros that end a tar, as in all members of a
// package except the last.
func gzipTar(t testing.TB, cut bool, entries ...tarEntry) []byte {
	t.Helper()
	var raw, packed bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	finish := w.Close
	if cut {
		finish = w.Flush
	}
	if err := finish(); err != nil {
		t.Fatal(err)
	}
	level := gzip.DefaultCompression
	if strings.HasPrefix(entries[0].Name, signaturePrefix) {
		level = gzip.NoCompression
	}
	z, err := gzip.NewWriterLevel(&packed, level)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(raw.Bytes())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}
