package apkbuild

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newKey generates a key or fails the test.
func newKey(t *testing.T, name string) *Key {
	t.Helper()
	key, err := NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// repository writes the packages and their index into dir/x86_64.
func repository(t *testing.T, dir string, key *Key, packages ...Package) {
	t.Helper()
	dir = filepath.Join(dir, "x86_64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for _, p := range packages {
		var file bytes.Buffer
		entry, err := p.Write(&file, key)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, entry.Filename()), file.Bytes())
		entries = append(entries, entry)
	}
	var index bytes.Buffer
	if err := WriteIndex(&index, key, "test repository", entries); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "APKINDEX.tar.gz"), index.Bytes())
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// alpine unpacks the x86_64 minirootfs, in which the real apk runs, and returns its folder.
func alpine(t *testing.T) string {
	t.Helper()
	fixtures := os.Getenv("SOV_ALPINE_FIXTURES")
	if fixtures == "" {
		fixtures = filepath.Join("..", "..", "..", "..", "shared", "alpine")
	}
	found, _ := filepath.Glob(filepath.Join(fixtures, "alpine-minirootfs-*-x86_64.tar.gz"))
	if len(found) == 0 || os.Getuid() != 0 {
		t.Skip("needs root, and Alpine's x86_64 minirootfs in $SOV_ALPINE_FIXTURES or ../shared/alpine")
	}
	root := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", found[0], "-C", root).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", found[0], err, out)
	}
	return root
}

// chroot runs a program inside root and returns its output.
func chroot(root string, command ...string) (string, error) {
	out, err := exec.Command("chroot", append([]string{root}, command...)...).CombinedOutput()
	return string(out), err
}

// example returns a package with every kind of file, scripts and all fields.
func example() Package {
	return Package{
		Info: Info{
			Name: "example", Version: "1.2-r3", Arch: "x86_64", Origin: "example-src",
			Description: "An example", URL: "https://example.org", License: "MIT",
			Maintainer: "A Person <person@example.org>", BuildTime: time.Unix(1_700_000_000, 0),
			Depends: []string{"so:libexample.so.1"}, Provides: []string{"cmd:example=1.2-r3"},
			ProviderPriority: 5,
		},
		Scripts: map[string][]byte{
			".pre-install":  []byte("#!/bin/sh\naddgroup -S -g 70 example\nadduser -S -D -H -u 70 -G example example\n"),
			".post-install": []byte("#!/bin/sh\necho configured > /etc/example.state\n"),
		},
		Files: []File{
			{Name: "usr/bin/example", Type: Regular, Mode: 0o4755, Data: []byte("#!/bin/sh\necho hello\n"), ModTime: time.Unix(1_600_000_000, 0)},
			{Name: "usr/bin/a-hard-link", Type: HardLink, Target: "usr/bin/example", Mode: 0o4755},
			{Name: "usr/bin/example-link", Type: Symlink, Target: "example", Mode: 0o777},
			{Name: "var/lib/example", Type: Directory, Mode: 0o1770, UID: 70, GID: 70, Owner: "example", Group: "example"},
			{Name: "var/lib/example/state", Type: Regular, Mode: 0o640, UID: 70, GID: 70, Owner: "example", Group: "example", Data: []byte("0")},
			{Name: "etc/" + strings.Repeat("long/", 30) + "name", Type: Regular, Mode: 0o644, Data: bytes.Repeat([]byte("x"), 70_000)},
		},
	}
}

// library returns the package that example depends on.
func library() Package {
	return Package{
		Info:  Info{Name: "libexample", Version: "1.0-r0", Arch: "x86_64", Provides: []string{"so:libexample.so.1=1.0"}},
		Files: []File{{Name: "usr/lib/libexample.so.1", Type: Regular, Mode: 0o755, Data: []byte("not really")}},
	}
}

// TestRealApkInstalls verifies and installs packages with Alpine's apk, for both kinds of
// signature.
func TestRealApkInstalls(t *testing.T) {
	for _, sha256 := range []bool{false, true} {
		t.Run(fmt.Sprintf("SHA256=%v", sha256), func(t *testing.T) {
			root := alpine(t)
			key := newKey(t, "test@example.org-1.rsa.pub")
			key.SHA256 = sha256
			public, err := key.PublicPEM()
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(root, "etc/apk/keys", key.Name), public)
			writeFile(t, filepath.Join(root, "etc/apk/repositories"), []byte("/repo\n"))
			repository(t, filepath.Join(root, "repo"), key, example(), library())

			for _, command := range []string{
				"apk add example",
				"apk verify /repo/x86_64/example-1.2-r3.apk",
				"test -e /usr/lib/libexample.so.1",
				"test /usr/bin/example -ef /usr/bin/a-hard-link",
				"test -u /usr/bin/example",
				"grep -q configured /etc/example.state",
			} {
				if out, err := chroot(root, "/bin/sh", "-c", command); err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out)
				}
			}
			checkInstalled(t, root, key)
			for command, want := range map[string]string{
				"stat -c '%U:%G %a %F' /var/lib/example":                         "example:example 1770 directory",
				"readlink /usr/bin/example-link":                                 "example",
				"apk info --who-owns /usr/bin/example":                           "/usr/bin/example is owned by example-1.2-r3",
				"apk list --installed example":                                   "example-1.2-r3 x86_64 {example-src} (MIT) [installed]",
				"apk audit --system | grep -E 'usr|var|long' || echo no changes": "no changes",
			} {
				out, err := chroot(root, "/bin/sh", "-c", command)
				if got := strings.TrimSpace(out); err != nil || got != want {
					t.Errorf("%s: got %q (%v), want %q", command, got, err, want)
				}
			}
		})
	}
}

// checkInstalled compares the result of Package.Installed with apk's database.
func checkInstalled(t *testing.T, root string, key *Key) {
	t.Helper()
	p := example()
	entry, err := p.Write(io.Discard, key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Installed(entry)
	if err != nil {
		t.Fatal(err)
	}
	database, err := os.ReadFile(filepath.Join(root, "lib/apk/db/installed"))
	if err != nil {
		t.Fatal(err)
	}
	for stanza := range strings.SplitSeq(string(database), "\n\n") {
		if strings.Contains(stanza, "\nP:example\n") {
			if diff := cmp.Diff(stanza+"\n\n", want); diff != "" {
				t.Errorf("Installed differs from what apk wrote (-apk +Installed):\n%s", diff)
			}
			return
		}
	}
	t.Error("apk's database has no example")
}

// TestRealApkRefuses shows that apk verifies signatures in the test above: it rejects another key,
// an unsigned package, and a flipped bit.
func TestRealApkRefuses(t *testing.T) {
	root := alpine(t)
	key, stranger := newKey(t, "test.rsa.pub"), newKey(t, "test.rsa.pub")
	public, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(root, "etc/apk/keys", key.Name), public)
	for _, c := range []struct {
		name string
		key  *Key
		flip bool
	}{{"stranger", stranger, false}, {"unsigned", nil, false}, {"flipped", key, true}} {
		t.Run(c.name, func(t *testing.T) {
			repo := "/" + c.name
			repository(t, root+repo, c.key, library())
			if c.flip {
				name := filepath.Join(root, repo, "x86_64", "libexample-1.0-r0.apk")
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				data[len(data)-20] ^= 1
				writeFile(t, name, data)
			}
			out, err := chroot(root, "/sbin/apk", "add", "--repositories-file", "/none", "-X", repo, "libexample")
			if err == nil {
				t.Errorf("apk installed it:\n%s", out)
			}
		})
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	key := newKey(t, "test.rsa.pub")
	var first, second bytes.Buffer
	for _, buf := range []*bytes.Buffer{&first, &second} {
		p := example()
		if _, err := p.Write(buf, key); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same package and key gave different bytes")
	}
}

// TestGzipHeader checks that the flags and the time in a stream's header, which signatures and
// checksums do not cover, are zero.
func TestGzipHeader(t *testing.T) {
	stream, err := memberStream([]member{{"file", 0o644, nil}}, epoch, cut)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stream[3:8], make([]byte, 5); !bytes.Equal(got, want) {
		t.Errorf("flags and time in the gzip header are % x, want zeros", got)
	}
}

// TestEntry compares the identity in the entry with the file's bytes: an unsigned file begins with
// the control stream.
func TestEntry(t *testing.T) {
	p := library()
	var file bytes.Buffer
	entry, err := p.Write(&file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if entry.Size != int64(file.Len()) || entry.InstalledSize != int64(len("not really")) {
		t.Errorf("sizes %d and %d, want %d and %d", entry.Size, entry.InstalledSize, file.Len(), len("not really"))
	}
	data, _, err := dataStream(p.Files)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(file.Bytes()[:file.Len()-len(data)])
	if want := "Q1" + base64.StdEncoding.EncodeToString(sum[:]); entry.Checksum != want {
		t.Errorf("checksum %s, want %s", entry.Checksum, want)
	}
}

func TestWriteRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Package)
		want   string
	}{
		{"no name", func(p *Package) { p.Name = "" }, "no name"},
		{"slash in version", func(p *Package) { p.Version = "1/2" }, "slash"},
		{"line break", func(p *Package) { p.Description = "one\nprovides = everything" }, "line break"},
		{"unknown script", func(p *Package) { p.Scripts = map[string][]byte{".preinst": nil} }, ".preinst"},
		{"absolute file", func(p *Package) { p.Files[0].Name = "/etc/passwd" }, "/etc/passwd"},
		{"climbing file", func(p *Package) { p.Files[0].Name = "../etc/passwd" }, "../etc/passwd"},
		{"file listed twice", func(p *Package) { p.Files = append(p.Files, p.Files[0]) }, "twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := library()
			c.change(&p)
			if _, err := p.Write(&bytes.Buffer{}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestKeyRoundTrip(t *testing.T) {
	key := newKey(t, "test.rsa.pub")
	pem, err := key.PrivatePEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(key.Name, pem)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Public().Equal(key.Public()) {
		t.Error("another key came back")
	}
	if _, err := ParseKey("x", []byte("no key")); err == nil {
		t.Error("no error for what is not a key")
	}
}
