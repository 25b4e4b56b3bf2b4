package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/fetch"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	blobs "github.com/sovereign-sql/sov/pipeline/store"
)

const makefileHead = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 7\nEXTRAVERSION =\nNAME = x\n"

// sourceTar returns an archive that looks like a kernel's source, with these files.
func sourceTar(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"Kbuild", "Makefile"} {
		text, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: "linux-6.1.7/" + name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	for name := range files { // symbolic links, "name -> target"
		if link, target, ok := strings.Cut(name, " -> "); ok {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "linux-6.1.7/" + link, Linkname: target, Mode: 0o777}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func xz(t *testing.T, b []byte) []byte {
	t.Helper()
	cmd := exec.Command("xz", "--compress", "--stdout")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("these tests need xz: %v", err)
	}
	return out
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func store(t *testing.T) *pipeline.Store {
	t.Helper()
	s, err := blobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// kernelOrg returns a client for which h answers all requests.
func kernelOrg(t *testing.T, h http.HandlerFunc) *fetch.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &fetch.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.URL.Scheme, req.URL.Host = "http", server.Listener.Addr().String()
		return http.DefaultTransport.RoundTrip(req)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestResolvePath(t *testing.T) {
	plain := sourceTar(t, map[string]string{"Kbuild": "", "Makefile": makefileHead})
	for name, archive := range map[string][]byte{"linux.tar": plain, "linux.tar.xz": xz(t, plain)} {
		t.Run(name, func(t *testing.T) {
			s, path := store(t), write(t, name, archive)
			got, err := Resolve(t.Context(), ResolveOptions{Source: path, Store: s})
			if err != nil {
				t.Fatal(err)
			}
			want := lock.Kernel{Version: "6.1.7", Source: path, SHA256: fmt.Sprintf("%x", sha256.Sum256(archive)), Size: int64(len(archive))}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			f, err := s.Open(pipeline.Blob{Digest: pipeline.Digest("sha256:" + got.SHA256), Size: got.Size})
			if err != nil {
				t.Fatalf("the archive is not in the store: %v", err)
			}
			f.Close()
		})
	}
}

func TestResolveBadPath(t *testing.T) {
	whole := xz(t, sourceTar(t, map[string]string{"Makefile": makefileHead + strings.Repeat("# kernel\n", 100_000)}))
	tests := []struct{ name, path, want string }{
		{"missing", filepath.Join(t.TempDir(), "linux.tar.xz"), "no such file"},
		{"directory", t.TempDir(), "is a directory; pack it"},
		{"short", write(t, "x.tar", []byte("abc")), "too short"},
		{"no Makefile", write(t, "x.tar", sourceTar(t, map[string]string{"Kbuild": ""})), "no Makefile in its top directory"},
		{"other Makefile", write(t, "x.tar", sourceTar(t, map[string]string{"Makefile": "all:\n"})), "no VERSION and PATCHLEVEL"},
		{"cut", write(t, "x.tar.xz", whole[:len(whole)/2]), "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Resolve(t.Context(), ResolveOptions{Source: tt.path, Store: store(t)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestResolveURL(t *testing.T) {
	archive := xz(t, sourceTar(t, map[string]string{"Makefile": makefileHead}))
	s, tmp := store(t), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	client := kernelOrg(t, func(w http.ResponseWriter, _ *http.Request) {
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("would be left if sov were killed now: %v, %v", left, err)
		}
		_, _ = w.Write(archive)
	})
	got, err := Resolve(t.Context(), ResolveOptions{Source: "https://example.org/linux.tar.xz", Store: s, Fetch: client})
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != "6.1.7" || got.Source != "https://example.org/linux.tar.xz" {
		t.Errorf("%+v", got)
	}
}

// noTools returns a $PATH with only xz, so that tests do not run apt.
func noTools(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "xz")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestResolveNamesWhatWasTried(t *testing.T) {
	if _, err := os.Stat(guest.InstalledSource); err == nil {
		t.Skipf("needs a system without %s", guest.InstalledSource)
	}
	hang := make(chan struct{})
	defer close(hang) // the server's Close waits for running requests
	client := kernelOrg(t, func(http.ResponseWriter, *http.Request) { <-hang })
	r := &resolver{store: store(t), patience: 50 * time.Millisecond,
		get: getter{fetch: client, tools: Options{Path: noTools(t)}.toolchain()}}
	_, err := r.first(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"give one with --with-kernel-source",
		"kernel.org: " + guest.SignatureURL(guest.Version) + ": no answer within 50ms",
		"Debian's linux-source-6.1: there is no apt-get here",
		guest.InstalledSource + ": open " + guest.InstalledSource + ": no such file",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
}

func TestResolveOffline(t *testing.T) {
	_, err := Resolve(t.Context(), ResolveOptions{Source: "deb:linux-source-6.1", Store: store(t), Fetch: &fetch.Client{Transport: fetch.Offline}})
	if !errors.Is(err, fetch.ErrOffline) {
		t.Errorf("apt offline: %v, want ErrOffline", err)
	}
}

// sign returns a new key and its signature of b.
func sign(t *testing.T, b []byte) (openpgp.EntityList, []byte) {
	t.Helper()
	key, err := openpgp.NewEntity("Test", "", "test@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var signature bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&signature, key, bytes.NewReader(b), nil); err != nil {
		t.Fatal(err)
	}
	return openpgp.EntityList{key}, signature.Bytes()
}

func TestSignature(t *testing.T) {
	plain := []byte("the tar of a kernel")
	keys, signature := sign(t, plain)
	if err := verifyWith(keys, bytes.NewReader(plain), signature); err != nil {
		t.Errorf("good signature: %v", err)
	}
	others, _ := sign(t, plain)
	for name, err := range map[string]error{
		"changed":     verifyWith(keys, strings.NewReader("the tar of another"), signature),
		"another key": verifyWith(others, bytes.NewReader(plain), signature),
		"no armor":    verifyWith(keys, bytes.NewReader(plain), []byte("<html>")),
		"stranger":    verifySignature(bytes.NewReader(plain), signature),
	} {
		if !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v, want ErrBadSignature", name, err)
		}
	}
	broken := errors.New("disk on fire")
	if err := verifyWith(keys, io.MultiReader(bytes.NewReader(plain[:4]), faulty{broken}), signature); !errors.Is(err, broken) || errors.Is(err, ErrBadSignature) {
		t.Errorf("archive that cannot be read: %v", err)
	}
}

type faulty struct{ err error }

func (f faulty) Read([]byte) (int, error) { return 0, f.err }

func TestSigningKeys(t *testing.T) {
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(signingKeys))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, fmt.Sprintf("%X", k.PrimaryKey.Fingerprint))
	}
	want := []string{"647F28654894E3BD457199BE38DBBDC86092693E", "E27E5D8A3403A2EF66873BBCDEA66FF797772CDC"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestResolveForgedRelease(t *testing.T) {
	plain := sourceTar(t, map[string]string{"Makefile": makefileHead})
	_, signature := sign(t, plain)
	client := kernelOrg(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, ".sign") {
			_, _ = w.Write(signature)
		} else {
			_, _ = w.Write(xz(t, plain))
		}
	})
	_, err := Resolve(t.Context(), ResolveOptions{Store: store(t), Fetch: client})
	if !errors.Is(err, ErrBadSignature) {
		t.Errorf("release signed by a stranger: %v, want ErrBadSignature and no other source", err)
	}
}

// TestResolveRelease takes a release with a valid signature. It does not request the list of
// checksums, which proves nothing beyond the signature.
func TestResolveRelease(t *testing.T) {
	part := strings.SplitN(guest.Version, ".", 3)
	plain := sourceTar(t, map[string]string{"Makefile": fmt.Sprintf("VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = %s\n", part[0], part[1], part[2])})
	archive := xz(t, plain)
	keys, signature := sign(t, plain)
	client := kernelOrg(t, func(w http.ResponseWriter, req *http.Request) {
		switch "https://cdn.kernel.org" + req.URL.Path {
		case guest.SignatureURL(guest.Version):
			_, _ = w.Write(signature)
		case guest.SourceURL(guest.Version):
			_, _ = w.Write(archive)
		default:
			t.Errorf("asked for %s", req.URL.Path)
		}
	})
	r := &resolver{store: store(t), patience: time.Minute, get: getter{fetch: client, tools: Options{Path: noTools(t)}.toolchain()},
		verify: func(plain io.Reader, signature []byte) error { return verifyWith(keys, plain, signature) }}
	got, err := r.first(t.Context())
	want := lock.Kernel{Version: guest.Version, Source: guest.SourceURL(guest.Version), SHA256: fmt.Sprintf("%x", sha256.Sum256(archive)), Size: int64(len(archive))}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestNewest looks up the version that could replace a locked one, without fetching it.
func TestNewest(t *testing.T) {
	fetched := 0
	answering := kernelOrg(t, func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(req.URL.Path, ".sign") {
			fetched++
		}
		_, _ = io.WriteString(w, "signature")
	})
	silent := kernelOrg(t, http.NotFound)
	apt := t.TempDir()
	script := "#!/bin/sh\necho 'Package: linux-source-6.1'\necho 'Version: 6.1.176-1'\n"
	if err := os.WriteFile(filepath.Join(apt, "apt-cache"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	path := write(t, "linux.tar", []byte("archive"))
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("archive")))
	tests := []struct {
		name, source string
		client       *fetch.Client
		locked       lock.Kernel
		version      string
		newer        bool
	}{
		{"the same release", "", answering, lock.Kernel{Version: guest.Version, Source: "deb:linux-source-6.1=" + guest.Version + "-1"}, guest.Version, false},
		{"an older release", "", answering, lock.Kernel{Version: "6.1.1", Source: "https://x/linux.tar.xz"}, guest.Version, true},
		{"Debian's, the same", "", silent, lock.Kernel{Version: "6.1.176", Source: "deb:linux-source-6.1=6.1.176-1"}, "6.1.176-1", false},
		{"Debian's, another revision", "", silent, lock.Kernel{Version: "6.1.176", Source: "deb:linux-source-6.1=6.1.176-0"}, "6.1.176-1", true},
		{"Debian's in place of a release", "", silent, lock.Kernel{Version: "6.1.176", Source: "https://x/linux.tar.xz"}, "6.1.176-1", false},
		{"a package asked for", "deb:linux-source-6.1", silent, lock.Kernel{Version: "6.1.170", Source: "deb:linux-source-6.1=6.1.170-1"}, "6.1.176-1", true},
		{"a file as it was", path, silent, lock.Kernel{Version: "6.1.7", Source: path, SHA256: sum}, "6.1.7 as it is now", false},
		{"a file that changed", path, silent, lock.Kernel{Version: "6.1.7", Source: path, SHA256: strings.Repeat("0", 64)}, "6.1.7 as it is now", true},
		{"a URL", "https://x/linux.tar.xz", silent, lock.Kernel{Version: "6.1.7", Source: "https://x/linux.tar.xz"}, "6.1.7", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			version, newer, err := Newest(t.Context(), ResolveOptions{Source: tt.source, Fetch: tt.client, Path: apt}, tt.locked)
			if err != nil || version != tt.version || newer != tt.newer {
				t.Errorf("got %q, %v, %v", version, newer, err)
			}
		})
	}
	if fetched > 0 {
		t.Errorf("%d archives were fetched", fetched)
	}
}

func TestMakefileVersion(t *testing.T) {
	for text, want := range map[string]string{
		makefileHead: "6.1.7",
		"VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\nVERSION = 9\n": "6.12.0-rc3",
		"VERSION=7\nPATCHLEVEL=0\n": "7.0",
	} {
		if got, err := makefileVersion(text); err != nil || got != want {
			t.Errorf("makefileVersion(%.20q...) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestDebianNames(t *testing.T) {
	g := getter{fetch: &fetch.Client{}, tools: Options{Path: noTools(t)}.toolchain()}
	for _, name := range []string{"", "-o=x", "../x", "a b"} {
		if _, err := g.debian(t.Context(), nil, name); err == nil || !strings.Contains(err.Error(), "not the name of a Debian package") {
			t.Errorf("package %q: %v", name, err)
		}
	}
}

func TestSourceInDeb(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg-deb")
	}
	g := getter{fetch: &fetch.Client{}, tools: Options{}.toolchain()}
	pack := func(name, content string) string {
		root := t.TempDir()
		for file, text := range map[string]string{
			"DEBIAN/control": "Package: linux-source-6.1\nVersion: 6.1.7-1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n",
			name:             content,
		} {
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		deb := filepath.Join(t.TempDir(), "x.deb")
		if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", root, deb).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v: %s", err, out)
		}
		return deb
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "source"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := g.sourceInDeb(t.Context(), out, pack("usr/src/linux-source-6.1.tar.xz", "the source")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || string(got) != "the source" {
		t.Errorf("source %q, %v", got, err)
	}
	if err := g.sourceInDeb(t.Context(), out, pack("usr/bin/hello", "")); err == nil || !strings.Contains(err.Error(), "deb:NAME wants a package such as") {
		t.Errorf("package without a source: %v", err)
	}
}

func TestAptComplaint(t *testing.T) {
	got := aptComplaint("W: some warning\nE: Version '1' for 'x' was not found\nE: Unable to lock\n")
	if want := "Version '1' for 'x' was not found; Unable to lock"; got != want {
		t.Errorf("aptComplaint = %q, want %q", got, want)
	}
}

func TestResolveCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Resolve(ctx, ResolveOptions{Store: store(t), Fetch: &fetch.Client{Transport: fetch.Offline}, Path: noTools(t)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
