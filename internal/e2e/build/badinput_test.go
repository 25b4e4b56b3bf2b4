package build

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

var update = flag.Bool("update", false, "rewrite docs/bad-input.md from what the tests see")

// A mishap is an error in a build, and what the message must contain for the user.
type mishap struct {
	name    string
	prepare func(t *testing.T, b *attempt)
	says    []string // the message contains all of these
	status  int
}

// An attempt is a build that will fail.
type attempt struct {
	recipe string // text; empty for the embedded recipe
	args   []string
	env    []string
	attr   *syscall.SysProcAttr
}

func (a *attempt) flags(args ...string) { a.args = append(a.args, args...) }

var mishaps = []mishap{
	{
		name: "No network",
		prepare: func(t *testing.T, a *attempt) {
			needRoot(t)
			a.attr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		},
		says: []string{"docker.io/library/alpine:3.22", "--image"},
	},
	{
		name:    "`--offline` with an empty cache",
		prepare: func(_ *testing.T, a *attempt) { a.flags("--offline") },
		says:    []string{"--offline"},
	},
	{
		name: "An image whose digest is not there",
		prepare: func(_ *testing.T, a *attempt) {
			a.flags("--image", sovtest.Sources.Registry()+"/library/alpine@sha256:"+strings.Repeat("0", 64))
		},
		says: []string{"library/alpine@sha256:0000", "not"},
	},
	{
		name: "A bit flipped in an image on its way",
		prepare: func(t *testing.T, a *attempt) {
			_, image, _ := strings.Cut(sovtest.Sources.Image(), "/")
			registry := strings.TrimPrefix(tampered(t, "http://"+sovtest.Sources.Registry(), "/blobs/"), "http://")
			a.flags("--image", registry+"/"+image, "--repository", sovtest.Sources.Repositories()[0])
		},
		says: []string{"library/alpine", "sha256:"},
	},
	{
		name: "An image for another architecture",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--image", amd64Image(t))
		},
		says: []string{"linux/arm64", "linux/amd64"},
	},
	{
		name: "A bundle that is cut off",
		prepare: func(t *testing.T, a *attempt) {
			a.recipe = sovtest.SmallRecipe
			whole := bundleOf(t, "name: small\n")
			a.flags("--offline", "--bundle", sovtest.TempFile(t, "small.sovbundle", whole[:len(whole)-600]))
		},
		says: []string{"small.sovbundle", "cut off"},
	},
	{
		name: "A bit flipped in a bundle",
		prepare: func(t *testing.T, a *attempt) {
			a.recipe = sovtest.SmallRecipe
			whole := bundleOf(t, "name: small\n")
			a.flags("--offline", "--bundle", sovtest.TempFile(t, "small.sovbundle", bytes.Replace(whole, []byte("name: small\n"), []byte("name: smalm\n"), 1)))
		},
		says: []string{"recipe small", "damaged or tampered with"},
	},
	{
		name: "A package that no repository has",
		prepare: func(_ *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.recipe = strings.Replace(sovtest.SmallRecipe, "postgresql,", "postgresq,", 1)
		},
		says: []string{"postgresq", "postgresql"},
	},
	{
		name: "A version that no repository has",
		prepare: func(_ *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.recipe = strings.Replace(sovtest.SmallRecipe, "postgresql,", "postgresql>99,", 1)
		},
		says: []string{"postgresql>99", "15."},
	},
	{
		name: "Packages that exclude each other",
		prepare: func(_ *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.recipe = strings.Replace(sovtest.SmallRecipe, "e2fsprogs]", `"!glibc"]`, 1)
		},
		says: []string{"glibc", "postgresql"},
	},
	{
		name: "A bit flipped in a package on its way",
		prepare: func(t *testing.T, a *attempt) {
			a.flags("--image", sovtest.Sources.Image(), "--repository", tampered(t, sovtest.Sources.Repositories()[0], ".apk"))
		},
		says: []string{".apk", "not"},
	},
	{
		name: "A bit flipped in an index on its way",
		prepare: func(t *testing.T, a *attempt) {
			a.flags("--image", sovtest.Sources.Image(), "--repository", tampered(t, sovtest.Sources.Repositories()[0], "APKINDEX.tar.gz"))
		},
		says: []string{"APKINDEX"},
	},
	{
		name: "Disk full",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--cache", mounttest.Tmpfs(t, "16m"), "--jobs", "1") // or several stages may report it
			a.recipe = sovtest.SmallRecipe
			a.flags("--kernel", sovtest.ArmKernel(t, sovtest.AllOptions()))
		},
		says: []string{"no space left", "prune the cache"},
	},
	{
		name: "A cache that cannot be written",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			dir := mounttest.Tmpfs(t, "16m")
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			a.flags("--cache", dir)
		},
		says: []string{"read-only", "choose another"},
	},
	{
		name: "No compiler for the kernel",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--with-kernel-source", kernelArchive(t))
			a.env = []string{"PATH=" + pathWith(t, "go", "xz", "gzip", "tar")}
		},
		says: []string{"flex", "bison", "bc", "apt-get install"},
	},
	{
		name: "A kernel of the wrong architecture",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--arch", "amd64", "--kernel", sovtest.ArmKernel(t, "CONFIG_SYSVIPC=y\n"))
		},
		says: []string{"arm64", "amd64"},
	},
	{
		name: "A kernel without System V IPC",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--kernel", sovtest.ArmKernel(t, strings.Replace(sovtest.AllOptions(), "CONFIG_SYSVIPC=y", "# CONFIG_SYSVIPC is not set", 1)))
		},
		says: []string{"CONFIG_SYSVIPC is not set", "could not create shared memory segment"},
	},
	{
		name: "A kernel that is none",
		prepare: func(t *testing.T, a *attempt) {
			a.flags(sovtest.FromMirror()...)
			a.flags("--kernel", sovtest.TempFile(t, "Image", []byte("this is not a kernel")))
		},
		says: []string{"Image", "kernel"},
	},
	{
		name: "A base image that is cut off",
		prepare: func(t *testing.T, a *attempt) {
			a.flags("--image", sovtest.TempFile(t, "alpine.tar", []byte("cut off")))
		},
		says: []string{"alpine.tar"},
	},
	{
		name: "An unknown key in a recipe",
		prepare: func(_ *testing.T, a *attempt) {
			a.recipe = strings.Replace(sovtest.SmallRecipe, "enabled:", "enabeld:", 1)
		},
		says: []string{"mine.yaml:14:3", "enabeld", "enabled"},
	},
	{
		name:    "A recipe that is not YAML",
		prepare: func(_ *testing.T, a *attempt) { a.recipe = "name: [small\nversion: 1\n" },
		says:    []string{"mine.yaml:"},
	},
	{
		name: "`fsync: off` in a recipe",
		prepare: func(_ *testing.T, a *attempt) {
			a.recipe = sovtest.SmallRecipe + "  settings:\n    fsync: off\n"
		},
		says: []string{"mine.yaml:16", "fsync"},
	},
	{
		name:    "A recipe that does not exist",
		prepare: func(_ *testing.T, a *attempt) { a.args = []string{"build", "sequel"} },
		says:    []string{"sequel", "sql"},
	},
	{
		name:    "An unknown architecture",
		prepare: func(_ *testing.T, a *attempt) { a.flags("--arch", "riscv64") },
		says:    []string{"riscv64", "arm64 or amd64"},
		status:  2,
	},
}

// TestBadInput makes builds fail in every way that users encounter and checks the messages. With
// -update, it writes docs/bad-input.md.
func TestBadInput(t *testing.T) {
	var table strings.Builder
	for _, m := range mishaps {
		t.Run(m.name, func(t *testing.T) {
			result := m.run(t)
			want := m.status
			if want == 0 {
				want = 1
			}
			if result.Status != want {
				t.Fatalf("want exit status %d: %v", want, result)
			}
			message := lastMessage(result.Stderr)
			for _, text := range m.says {
				if !strings.Contains(message, text) {
					t.Errorf("the message does not say %q:\n%s", text, message)
				}
			}
			if strings.Contains(result.Stderr, "goroutine ") {
				t.Errorf("a panic: %v", result)
			}
			fmt.Fprintf(&table, "| %s | %d | %s |\n", m.name, result.Status, cell(scrub(message)))
		})
	}
	if *update {
		rewrite(t, "../../../docs/bad-input.md", table.String())
	}
}

// run runs the build with an empty cache in an empty folder.
func (m mishap) run(t *testing.T) sovtest.Outcome {
	a := &attempt{}
	m.prepare(t, a)
	dir := t.TempDir()
	args := a.args
	if len(args) == 0 || args[0] != "build" {
		recipe := "sql"
		if a.recipe != "" {
			recipe = "./mine.yaml"
			if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(a.recipe), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		args = append([]string{"build", recipe, "--progress", "plain"}, args...)
	}
	return sovtest.Run(t, func(c *exec.Cmd) {
		c.Dir = dir
		c.Env = append(append(os.Environ(), "SOV_CACHE_DIR="+t.TempDir()), a.env...)
		c.SysProcAttr = a.attr
	}, args...)
}

// lastMessage returns sov's last message, from the last line that begins with "sov: ".
func lastMessage(stderr string) string {
	if i := strings.LastIndex(stderr, "\nsov: "); i >= 0 {
		stderr = stderr[i+1:]
	}
	return strings.TrimSpace(stderr)
}

var (
	loopbackPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	temporary    = regexp.MustCompile(`/tmp/[A-Za-z0-9_./-]*/([A-Za-z0-9_.-]+)`)
	longHex      = regexp.MustCompile(`[0-9a-f]{40,}`)
	scratch      = regexp.MustCompile(`file-[0-9]+`)
	resolver     = regexp.MustCompile(` on [0-9.]+:53: [^(]*`)
	mirrorKey    = regexp.MustCompile(`sov-mirror-[0-9a-f]{8}`)
)

// scrub removes from a message what differs between runs.
func scrub(message string) string {
	message = loopbackPort.ReplaceAllString(message, "127.0.0.1:5080")
	message = resolver.ReplaceAllString(message, " ")
	message = mirrorKey.ReplaceAllString(message, "sov-mirror-5de9c1f0")
	message = scratch.ReplaceAllString(message, "file-1")
	message = temporary.ReplaceAllString(message, "…/$1")
	return longHex.ReplaceAllStringFunc(message, func(h string) string { return h[:12] + "…" })
}

// cell formats a message of several lines as one cell of a table.
func cell(message string) string {
	message = strings.ReplaceAll(message, "|", `\|`)
	return "`" + strings.ReplaceAll(message, "\n", "`<br>`") + "`"
}

// rewrite replaces the rows of the first table in a document.
func rewrite(t *testing.T, path, rows string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const rule = "| --- | --- | --- |\n"
	head, table, found := strings.Cut(string(text), rule)
	_, tail, closed := strings.Cut(table, "\n\n")
	if !found || !closed {
		t.Fatalf("%s has no table of three columns with a line behind it", path)
	}
	if err := os.WriteFile(path, []byte(head+rule+rows+"\n"+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces and mounts")
	}
}

// tampered starts a proxy for address and returns its URL. It flips a bit in the middle of every
// file whose path contains part.
func tampered(t *testing.T, address, part string) string {
	t.Helper()
	origin, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: origin.Scheme, Host: origin.Host}) },
		ModifyResponse: func(r *http.Response) error {
			if !strings.Contains(r.Request.URL.Path, part) || r.StatusCode != http.StatusOK {
				return nil
			}
			var body bytes.Buffer
			if _, err := body.ReadFrom(r.Body); err != nil {
				return err
			}
			r.Body.Close()
			body.Bytes()[body.Len()/2] ^= 0x10
			r.Body = nopCloser{&body}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL + origin.Path
}

// amd64Image writes an image for amd64 to a tarball and returns its path.
func amd64Image(t *testing.T) string {
	t.Helper()
	config, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	image, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alpine.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("alpine:3.22"), image); err != nil {
		t.Fatal(err)
	}
	return path
}

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }

// kernelArchive writes an archive that resembles a kernel's source and returns its path.
func kernelArchive(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "linux-6.1.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	makefile := "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 1\nEXTRAVERSION =\n"
	if err := os.WriteFile(filepath.Join(dir, "linux-6.1.1", "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "linux-6.1.1.tar.xz")
	if out, err := exec.Command("tar", "-C", dir, "-cJf", path, "linux-6.1.1").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return path
}

// pathWith returns a value for PATH with only the named programs.
func pathWith(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// bundleOf returns a bundle that contains only a recipe and a lock.
func bundleOf(t *testing.T, recipe string) []byte {
	t.Helper()
	var lock, file bytes.Buffer
	lock.WriteString("version: 1\nbuilds:\n  - {recipe: small, arch: arm64, inputs: {image: x, repositories: [], packages: []}, " +
		"image: {reference: x, digest: \"sha256:" + strings.Repeat("0", 64) + "\"}, packages: []}\n")
	index := &offline.Index{Format: offline.Format, Recipe: "small", Arch: "arm64"}
	contents := map[string]string{"small": recipe, "sov.lock": lock.String()}
	for name, kind := range map[string]offline.Kind{"small": offline.Recipe, "sov.lock": offline.Lock} {
		index.Items = append(index.Items, offline.Item{Kind: kind, Name: name, Size: int64(len(contents[name])), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(contents[name])))})
	}
	err := offline.Write(&file, index, func(i offline.Item) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(contents[i.Name])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}
