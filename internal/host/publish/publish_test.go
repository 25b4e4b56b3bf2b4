package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// A peer is a registry on loopback. A test can intercept its requests.
type peer struct {
	t    *testing.T
	host string

	mu     sync.Mutex
	gets   []string                                                        // paths of successful GETs so far
	answer func(w http.ResponseWriter, r *http.Request, next http.Handler) // nil: next answers
}

func newPeer(t *testing.T, o ...registry.Option) *peer {
	t.Helper()
	p := &peer{t: t}
	handler := registry.New(append(o, registry.Logger(log.New(io.Discard, "", 0)))...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if r.Method == http.MethodGet {
			p.gets = append(p.gets, r.URL.Path)
		}
		answer := p.answer
		p.mu.Unlock()
		if answer == nil {
			handler.ServeHTTP(w, r)
			return
		}
		answer(w, r, handler)
	}))
	t.Cleanup(server.Close)
	p.host = strings.TrimPrefix(server.URL, "http://")
	return p
}

// between makes fn answer requests. nil restores the registry.
func (p *peer) between(fn func(http.ResponseWriter, *http.Request, http.Handler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = fn
}

// asked returns and clears the paths of GETs.
func (p *peer) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	gets := p.gets
	p.gets = nil
	return gets
}

func (p *peer) ref(tag string) name.Reference {
	p.t.Helper()
	ref, err := name.ParseReference(p.host + "/team/sql:" + tag)
	if err != nil {
		p.t.Fatal(err)
	}
	return ref
}

func options() Options {
	return Options{Options: oci.Options{Pause: time.Millisecond, Keychain: authn.NewMultiKeychain(),
		Transport: fetch.NewTransport(fetch.Timeouts{Connect: time.Minute, Header: time.Minute, Idle: time.Minute})}}
}

func testKey(t testing.TB, seed byte) dsse.PrivateKey {
	t.Helper()
	key, err := dsse.NewKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// makeArtifact writes a machine. With a key it also signs the machine.
func makeArtifact(t *testing.T, arch string, key dsse.PrivateKey) string {
	t.Helper()
	return makeVersion(t, "sql", "1", arch, key)
}

func makeVersion(t *testing.T, name, version, arch string, key dsse.PrivateKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(name string, content []byte) manifest.File {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		return manifest.Describe(name, content)
	}
	files := []manifest.File{put("kernel", []byte("kernel of "+arch)), put("rootfs.img", bytes.Repeat([]byte(arch), 200_000)), put(artifact.SBOMFile, []byte("{}"))}
	m := &manifest.Manifest{Format: manifest.Format, Name: name, Version: version, Arch: arch, Files: files}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	files = slices.Insert(slices.Clone(files), 1, put(artifact.ManifestFile, text))
	statement, err := provenance.New(files, "v1", provenance.External{Arch: arch}, provenance.Internal{}, nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(artifact.SumsFile, manifest.SumsFile(append(files, put(artifact.ProvenanceFile, statement))))
	if key != nil {
		sign(t, dir, provenance.Release{Name: name, Serial: 1}, key)
	}
	return dir
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func sign(t *testing.T, dir string, r provenance.Release, key dsse.PrivateKey) {
	t.Helper()
	if _, err := provenance.Sign(dir, key, r); err != nil {
		t.Fatal(err)
	}
	signers.Store(dir, key)
}

// signers are the keys of signed artifacts, by folder.
var signers sync.Map

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// replace replaces a folder in the simplest way.
func replace(dir string, _ []string, fill func(string) error) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return fill(dir)
}

// pull pulls a machine into out.
func pull(ref name.Reference, arch string, key dsse.PublicKey, out string) (dir string, changed bool, err error) {
	m, err := Open(context.Background(), ref, arch, key, options())
	if err != nil {
		return "", false, err
	}
	return m.Place(context.Background(), out, replace)
}

// push publishes artifacts. Signed ones are signed for the reference with serial 1.
func push(t *testing.T, ref name.Reference, dirs ...string) *Published {
	t.Helper()
	for _, dir := range dirs {
		if key, ok := signers.Load(dir); ok {
			sign(t, dir, provenance.Release{Name: "sql", Reference: ref.Name(), Serial: 1}, key.(dsse.PrivateKey))
		}
	}
	p, err := Push(context.Background(), ref, dirs, options())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestThereAndBack publishes and pulls, with registries that support referrers and registries that
// do not.
func TestThereAndBack(t *testing.T) {
	key := testKey(t, 1)
	for name, o := range map[string][]registry.Option{"referrers": {registry.WithReferrersSupport(true)}, "tags": nil} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, o...)
			arm, amd := makeArtifact(t, "arm64", key), makeArtifact(t, "amd64", nil)
			one := push(t, p.ref("one"), arm)
			both := push(t, p.ref("both"), arm, amd)
			want := map[string]map[string]string{"both": contents(t, arm)}
			if diff := cmp.Diff([]string{"arm64"}, both.Signed); diff != "" || len(one.Arches) != 1 {
				t.Errorf("published %+v, %+v", one, both)
			}
			if again := push(t, p.ref("one"), arm); again.Reference != one.Reference {
				t.Errorf("published again it is %s, not %s", again.Reference, one.Reference)
			}
			want["one"] = contents(t, arm)
			for _, tag := range []string{"one", "both"} {
				out := t.TempDir()
				dir, changed, err := pull(p.ref(tag), "arm64", key.Public(), out)
				if err != nil || !changed {
					t.Fatalf("%s: changed %v, %v", tag, changed, err)
				}
				if diff := cmp.Diff(want[tag], contents(t, dir)); diff != "" {
					t.Errorf("%s came back as another:\n%s", tag, diff)
				}
				if left, err := filepath.Glob(filepath.Join(out, "sql", ".*")); err != nil || len(left) > 0 {
					t.Errorf("%s left %q, %v", tag, left, err)
				}
				if _, changed, err := pull(p.ref(tag), "arm64", key.Public(), out); err != nil || changed {
					t.Errorf("%s again: changed %v, %v", tag, changed, err)
				}
			}
			if _, _, err := pull(p.ref("both"), "amd64", nil, t.TempDir()); err != nil {
				t.Errorf("unsigned, no key asked for: %v", err)
			}
			for what, try := range map[string]func() error{
				"unsigned": func() error { _, _, err := pull(p.ref("both"), "amd64", key.Public(), t.TempDir()); return err },
				"another key": func() error {
					_, _, err := pull(p.ref("one"), "arm64", testKey(t, 2).Public(), t.TempDir())
					return err
				},
			} {
				if err := try(); !errors.Is(err, ErrUnproven) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, _, err := pull(p.ref("one"), "amd64", nil, t.TempDir()); err == nil || !strings.Contains(err.Error(), "it is for arm64") {
				t.Errorf("another architecture: %v", err)
			}
		})
	}
}

// TestSignedLater signs an artifact after its publication. The artifact's digest stays the same.
func TestSignedLater(t *testing.T) {
	p, key := newPeer(t, registry.WithReferrersSupport(true)), testKey(t, 1)
	dir := makeArtifact(t, "arm64", nil)
	before := push(t, p.ref("1"), dir)
	for _, k := range []dsse.PrivateKey{testKey(t, 2), key} {
		sign(t, dir, provenance.Release{Name: "sql", Serial: 1}, k)
		if after := push(t, p.ref("1"), dir); after.Reference != before.Reference {
			t.Errorf("signing made %s of %s", after.Reference, before.Reference)
		}
	}
	got, _, err := pull(p.ref("1"), "arm64", key.Public(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, dir), contents(t, got)); diff != "" {
		t.Error(diff)
	}
}

// TestFlippedBits: a registry changes a bit of each answer in turn, or truncates it. The pull
// either fails and leaves nothing, or gets the signed content.
func TestFlippedBits(t *testing.T) {
	p, key := newPeer(t, registry.WithReferrersSupport(true)), testKey(t, 1)
	arm := makeArtifact(t, "arm64", key)
	push(t, p.ref("1"), arm, makeArtifact(t, "amd64", key))
	want := contents(t, arm)
	p.asked()
	if _, _, err := pull(p.ref("1"), "arm64", key.Public(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	paths := slices.Compact(slices.Sorted(slices.Values(p.asked())))
	refused, blobs := 0, 0
	for _, path := range paths {
		for at := range 24 {
			p.between(spoil(path, at))
			out := t.TempDir()
			dir, _, err := pull(p.ref("1"), "arm64", key.Public(), out)
			if err != nil {
				refused++
				if strings.Contains(path, "/blobs/") {
					blobs++
				}
				if _, err := os.Stat(filepath.Join(out, "sql", "arm64")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s, %d: refused and there: %v", path, at, err)
				}
				continue
			}
			if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
				t.Errorf("%s, %d: another artifact was taken", path, at)
			}
		}
	}
	if wantBlobs := 24 * len(slices.DeleteFunc(paths, func(p string) bool { return !strings.Contains(p, "/blobs/") })); blobs != wantBlobs {
		t.Errorf("of %d spoilt blobs %d were refused", wantBlobs, blobs)
	}
	t.Logf("%d of %d spoilt answers were refused, the others made no difference", refused, 24*len(paths))
}

// spoil changes the answer to a GET of path at one of 24 places. Most flip a bit, some truncate the
// answer or append to it.
func spoil(path string, at int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodGet || r.URL.Path != path {
			next.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Range")
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		b := rec.Body.Bytes()
		switch {
		case len(b) == 0:
		case at == 0:
			b = b[:len(b)-1]
		case at == 1:
			b = append(b, 'x')
		case at == 2:
			b = nil
		default:
			b[(len(b)-1)*(at-3)/20] ^= 1 << (at % 8)
		}
		for k, v := range rec.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(b)
	}
}

// TestResume interrupts each transfer of the root file system, within a pull and between two pulls.
func TestResume(t *testing.T) {
	p := newPeer(t)
	dir := makeArtifact(t, "arm64", nil)
	want := contents(t, dir)
	push(t, p.ref("1"), dir)
	var rootfs manifest.File
	if m, err := manifest.Load(dir); err == nil {
		rootfs, _ = m.File("rootfs.img")
	}
	var ranges []string
	sent, allowed := 0, 0
	cut := func(limit int) {
		p.mu.Lock()
		allowed = limit
		p.mu.Unlock()
		p.between(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, rootfs.SHA256) {
				next.ServeHTTP(w, r)
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			ranges = append(ranges, r.Header.Get("Range"))
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			b := rec.Body.Bytes()
			n, _ := w.Write(b[:min(len(b), allowed)])
			sent += n
			if n < len(b) {
				panic(http.ErrAbortHandler)
			}
		})
	}
	out := t.TempDir()
	cut(100_000) // four attempts are not enough for a million bytes
	if _, _, err := pull(p.ref("1"), "arm64", nil, out); err == nil || !strings.Contains(err.Error(), "pull again to resume") {
		t.Fatalf("the pull that broke: %v", err)
	}
	cut(300_000)
	got, _, err := pull(p.ref("1"), "arm64", nil, out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, got)); diff != "" {
		t.Error(diff)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(ranges) < 4 || ranges[0] != "" || ranges[4] == "" || int64(sent) > rootfs.Size+400_000 {
		t.Errorf("asked for %q, %d bytes were sent for %d", ranges, sent, rootfs.Size)
	}
}

// TestSeed pulls a new version over an old one. Files of both versions are not downloaded.
func TestSeed(t *testing.T) {
	p := newPeer(t)
	dir, out := makeArtifact(t, "arm64", nil), t.TempDir()
	push(t, p.ref("1"), dir)
	if _, _, err := pull(p.ref("1"), "arm64", nil, out); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Version = "2"
	rewrite(t, dir, m)
	push(t, p.ref("2"), dir)
	p.asked()
	got, changed, err := pull(p.ref("2"), "arm64", nil, out)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	rootfs, _ := m.File("rootfs.img")
	for _, path := range p.asked() {
		if strings.HasSuffix(path, rootfs.SHA256) {
			t.Error("the root file system was fetched again")
		}
	}
	if diff := cmp.Diff(contents(t, dir), contents(t, got)); diff != "" {
		t.Error(diff)
	}
}

// rewrite writes another manifest into an artifact, and re-creates the files that depend on it.
func rewrite(t *testing.T, dir string, m *manifest.Manifest) {
	t.Helper()
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	files := append(slices.Clone(m.Files), manifest.Describe(artifact.ManifestFile, text))
	statement, err := provenance.New(files, "v1", provenance.External{}, provenance.Internal{}, nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{artifact.ManifestFile: text, artifact.ProvenanceFile: statement,
		artifact.SumsFile: manifest.SumsFile(append(files, manifest.Describe(artifact.ProvenanceFile, statement)))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestParallelPulls: several pulls to one folder wait for each other.
func TestParallelPulls(t *testing.T) {
	p := newPeer(t)
	dir, out := makeArtifact(t, "arm64", nil), t.TempDir()
	push(t, p.ref("1"), dir)
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if _, _, err := pull(p.ref("1"), "arm64", nil, out); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if diff := cmp.Diff(contents(t, dir), contents(t, filepath.Join(out, "sql", "arm64"))); diff != "" {
		t.Error(diff)
	}
	if left, err := filepath.Glob(filepath.Join(out, "sql", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// TestHostile pulls from registries with content that sov does not push.
func TestHostile(t *testing.T) {
	p := newPeer(t)
	dir := makeArtifact(t, "arm64", nil)
	_, files, err := soundFiles(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var layers []content
	for _, f := range files {
		layers = append(layers, fileContent(dir, f, nil))
	}
	titled := func(title string, body []byte) content {
		c := bytesContent(fileType, body)
		c.Annotations = map[string]string{titleKey: title}
		return c
	}
	tests := []struct {
		name, artifactType string
		layers             []content
		want               string
	}{
		{"a path", ArtifactType, append(slices.Clone(layers), titled("../../etc/cron.d/x", []byte("x"))), "is not a file name"},
		{"an absolute path", ArtifactType, append(slices.Clone(layers), titled("/etc/x", []byte("x"))), "is not a file name"},
		{"a hidden file", ArtifactType, append(slices.Clone(layers), titled(".ssh", []byte("x"))), "is not a file name"},
		{"no title", ArtifactType, append(slices.Clone(layers), titled("", []byte("x"))), "is not a file name"},
		{"a file twice", ArtifactType, append(slices.Clone(layers), titled("kernel", []byte("x"))), "is listed twice"},
		{"a file more", ArtifactType, append(slices.Clone(layers), titled("extra", []byte("x"))), "are not the files"},
		{"a file less", ArtifactType, layers[:len(layers)-1], "are not the files"},
		{"no manifest", ArtifactType, layers[1:], "it has no manifest.json"},
		{"many files", ArtifactType, slices.Repeat(layers, 20), "no machine has more than"},
		{"a container", "", layers, "it is not a machine"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := newArtifact(tt.artifactType, nil, nil, tt.layers...)
			if err != nil {
				t.Fatal(err)
			}
			ref := p.ref(fmt.Sprint("bad", i))
			if err := remote.Push(ref, img); err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			if _, _, err := pull(ref, "arm64", nil, out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if entries, err := os.ReadDir(out); err != nil || len(entries) > 0 {
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

func TestHugeManifest(t *testing.T) {
	p := newPeer(t)
	p.between(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write(append([]byte("{"), bytes.Repeat([]byte(" "), 2*maxManifest)...))
	})
	if _, _, err := pull(p.ref("1"), "arm64", nil, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no machine's has more than") {
		t.Errorf("got %v", err)
	}
}

func TestPushRefuses(t *testing.T) {
	p := newPeer(t)
	dir := makeArtifact(t, "arm64", nil)
	if err := os.WriteFile(filepath.Join(dir, "kernel"), []byte("kernel of amd64"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(context.Background(), p.ref("1"), []string{dir}, options()); err == nil || !strings.Contains(err.Error(), "it is not sound") {
		t.Errorf("got %v", err)
	}
	p.between(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { w.WriteHeader(http.StatusForbidden) })
	if _, err := Push(context.Background(), p.ref("1"), []string{makeArtifact(t, "arm64", nil)}, options()); err == nil || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("a registry that says no: %v", err)
	}
}

func FuzzParseMachine(f *testing.F) {
	layers := func(names ...string) (out []content) {
		for _, name := range names {
			c := bytesContent(fileType, []byte(name))
			c.Annotations = map[string]string{titleKey: name}
			out = append(out, c)
		}
		return out
	}
	for _, names := range [][]string{{artifact.ManifestFile, artifact.SumsFile, artifact.ProvenanceFile, "kernel"}, {"../x"}} {
		img, err := newArtifact(ArtifactType, nil, nil, layers(names...)...)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := img.RawManifest()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, []byte(`{"format":1,"name":"sql","arch":"arm64","files":[]}`))
	}
	f.Fuzz(func(t *testing.T, raw, own []byte) {
		defer costtest.Text.Watch(t, len(raw)+len(own))()
		m, err := parseMachine(raw)
		if err != nil {
			return
		}
		for _, l := range m.Layers {
			if name := l.Annotations[titleKey]; filepath.Base(name) != name || !filepath.IsLocal(name) {
				t.Errorf("took %q for a name", name)
			}
		}
		_, _ = checkFiles(m, map[string][]byte{artifact.ManifestFile: own, artifact.SumsFile: nil, artifact.ProvenanceFile: nil})
		_, _ = forArch(raw, "arm64")
	})
}

var _ v1.Layer = content{}
