package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sovereign-sql/sov/internal/fetch"
)

// layerTar returns a small layer. One of its files depends on the architecture.
func layerTar(t testing.TB, arch string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "etc/arch", Mode: 0o644, Size: int64(len(arch)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, arch)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func image(t testing.TB, arch string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar(t, arch))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// index returns an index of an image for each architecture and an attestation as BuildKit adds it.
// arm64 has the variant that Docker Hub sets.
func index(t testing.TB) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: image(t, "amd64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: image(t, "arm64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: image(t, "attestation"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
	)
}

// serve starts a registry that holds the index and returns its reference.
func serve(t *testing.T, middle func(http.Handler) http.Handler) string {
	t.Helper()
	server := httptest.NewServer(middle(registry.New(registry.Logger(discard))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/library/base:3"
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index(t)); err != nil {
		t.Fatal(err)
	}
	return ref
}

var discard = log.New(io.Discard, "", 0)

func straight(h http.Handler) http.Handler { return h }

func open(t *testing.T, ref, arch, digest string, o Options) (*Image, error) {
	t.Helper()
	r, err := Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	return Open(context.Background(), r, arch, digest, o)
}

// content fetches and decompresses the image's only layer.
func content(t *testing.T, img *Image) ([]byte, error) {
	t.Helper()
	if len(img.Layers) != 1 {
		t.Fatalf("%d layers, want 1", len(img.Layers))
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := img.Layers[0].Fetch(context.Background(), f, nil); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = img.Layers[0].Decompress(&b, f)
	return b.Bytes(), err
}

func TestParse(t *testing.T) {
	tests := []struct {
		text string
		kind Kind
		name string
	}{
		{"alpine:3.22", Registry, "index.docker.io/library/alpine:3.22"},
		{"docker.io/library/alpine:3.22", Registry, "index.docker.io/library/alpine:3.22"},
		{"127.0.0.1:5000/a/b", Registry, "127.0.0.1:5000/a/b:latest"},
		{"oci:some/dir", Layout, "some/dir"},
		{"./image", Tarball, "image"},
		{"/var/image", Tarball, "/var/image"},
		{"image.tar.gz", Tarball, "image.tar.gz"},
		{"docker://alpine:3.22", Registry, "index.docker.io/library/alpine:3.22"},
		{"oci:some/dir:3.22", Layout, "some/dir"},
		{"docker-archive:image:a/b:1", Tarball, "image"},
		{"oci-archive:image.tar:1", Tarball, "image.tar"},
		{"image.tar.zst", Tarball, "image.tar.zst"},
		{"./image.tar.xz:1", Tarball, "image.tar.xz"},
		{"image.tar@sha256:" + strings.Repeat("0", 64), Tarball, "image.tar"},
	}
	for _, tt := range tests {
		r, err := Parse(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got := r.Path
		if r.Kind == Registry {
			got = r.Name.Name()
		}
		if r.Kind != tt.kind || got != tt.name || r.String() != tt.text {
			t.Errorf("%s: got kind %d of %q", tt.text, r.Kind, got)
		}
	}
	for _, bad := range []string{"", "oci:", "docker://", "docker-archive:", "oci::tag", "UPPER/case", "a b"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was taken for a reference", bad)
		}
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	if _, err := layout.Write(filepath.Join(dir, "layout"), index(t)); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("base:3")
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(saved, tag, image(t, "arm64")); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "archive.tar")
	writeTarOf(t, archive, filepath.Join(dir, "layout"))

	for place, ref := range map[string]string{
		"registry": serve(t, straight), "layout": "oci:" + filepath.Join(dir, "layout"),
		"docker save": saved, "OCI archive": archive,
	} {
		t.Run(place, func(t *testing.T) {
			img, err := open(t, ref, "arm64", "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := content(t, img)
			if err != nil || !bytes.Equal(got, layerTar(t, "arm64")) {
				t.Fatalf("layer: %d bytes, %v", len(got), err)
			}
			again, err := open(t, ref, "arm64", img.Digest, Options{})
			if err != nil || again.Digest != img.Digest {
				t.Errorf("by its digest: %v", err)
			}
			if _, err := open(t, ref, "arm64", "sha256:"+strings.Repeat("0", 64), Options{}); err == nil {
				t.Error("another digest was taken")
			}
			if _, err := open(t, ref, "s390x", "", Options{}); err == nil {
				t.Error("an architecture that is not there was found")
			}
		})
	}
}

// writeTarOf writes a directory as a tar.
func writeTarOf(t testing.TB, path, dir string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWrongLayers(t *testing.T) {
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "digest"},
		{"longer", func(b []byte) []byte { return append(b, 0) }, "bytes arrived"},
		{"shorter", func(b []byte) []byte { return b[:len(b)-1] }, "bytes arrived"},
		{"page of a portal", func([]byte) []byte { return []byte("<html>") }, "bytes arrived"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := open(t, serve(t, straight), "arm64", "", Options{Pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			layer := &img.Layers[0]
			original := layer.open
			layer.open = func() (io.ReadCloser, error) {
				r, err := original()
				if err != nil {
					return nil, err
				}
				b, err := io.ReadAll(r)
				return io.NopCloser(bytes.NewReader(tt.spoil(b))), err
			}
			if _, err := content(t, img); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about the %s", err, tt.want)
			}
		})
	}
	t.Run("diff ID", func(t *testing.T) {
		img, err := open(t, serve(t, straight), "arm64", "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		img.Layers[0].DiffID = "sha256:" + strings.Repeat("0", 64)
		if _, err := content(t, img); err == nil || !strings.Contains(err.Error(), "diff ID") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRetriesPassingFaults(t *testing.T) {
	var requests atomic.Int64
	flaky := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") && requests.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	if _, err := open(t, serve(t, flaky), "arm64", "", Options{}); err != nil {
		t.Error(err)
	}
}

// TestDockerCredentials fetches manifests and layers from a registry that requires a login. The
// credentials are those that `docker login` has stored.
func TestDockerCredentials(t *testing.T) {
	var closed atomic.Bool
	guarded := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); closed.Load() && (user != "someone" || password != "secret") {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	ref := serve(t, guarded)
	closed.Store(true)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if _, err := open(t, ref, "arm64", "", Options{}); err == nil || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("without credentials: %v, want an error that says how to give them", err)
	}
	host, _, _ := strings.Cut(ref, "/")
	config := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte("someone:secret")))
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := open(t, ref, "arm64", "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := content(t, img); err != nil || !bytes.Equal(got, layerTar(t, "arm64")) {
		t.Errorf("layer: %d bytes, %v", len(got), err)
	}
}

func TestMirrorsComeFirst(t *testing.T) {
	ref := serve(t, straight)
	host, _, _ := strings.Cut(ref, "/")
	img, err := open(t, "docker.io/library/base:3", "amd64", "", Options{Mirrors: []string{"http://" + host + "/"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := content(t, img); err != nil || !bytes.Equal(got, layerTar(t, "amd64")) {
		t.Errorf("layer: %d bytes, %v", len(got), err)
	}
}

func TestDockerMirrors(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, ".docker", "daemon.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"registry-mirrors": ["https://mirror.example"], "debug": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readMirrors(path)
	if err != nil || fmt.Sprint(got) != "[https://mirror.example]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPlainHTTPIsLocalOnly(t *testing.T) {
	_, err := open(t, "192.168.1.1:5000/base:3", "arm64", "", Options{Transport: recordOnly{t}})
	if !errors.Is(err, fetch.ErrInsecure) && !strings.Contains(fmt.Sprint(err), "plain http") {
		t.Errorf("got %v", err)
	}
}

// recordOnly fails every request, and fails the test at an unencrypted one.
type recordOnly struct{ t *testing.T }

func (r recordOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		r.t.Errorf("asked %s", req.URL)
	}
	return nil, errors.New("no network in this test")
}

func TestOffline(t *testing.T) {
	_, err := open(t, "docker.io/library/alpine:3.22", "arm64", "", Options{Transport: fetch.Offline})
	if !errors.Is(err, fetch.ErrOffline) {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	_, err := open(t, "127.0.0.1:1/library/alpine:3.22", "arm64", "", Options{Pause: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "--image") {
		t.Errorf("got %v", err)
	}
}
