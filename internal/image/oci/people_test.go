package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
)

const zeroDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func platform(arch string) *v1.Platform { return &v1.Platform{OS: "linux", Architecture: arch} }

// with adds an image to an index, with a platform and names.
func with(t testing.TB, index v1.ImageIndex, img mutate.Appendable, p *v1.Platform, names ...string) v1.ImageIndex {
	t.Helper()
	d := v1.Descriptor{Platform: p}
	if len(names) > 0 {
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": names[0]}
	}
	if len(names) > 1 {
		d.Annotations["io.containerd.image.name"] = names[1]
	}
	return mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: d})
}

// as returns the image with its configuration's architecture changed to arch. Its layers stay the
// same.
func as(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func writeLayout(t testing.TB, index v1.ImageIndex) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	return dir
}

func digestOf(t testing.TB, img interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// forget removes the blob of an image's manifest from a layout.
func forget(t testing.TB, dir string, img v1.Image) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digestOf(t, img), "sha256:"))); err != nil {
		t.Fatal(err)
	}
}

func pack(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar")
	writeTarOf(t, path, dir)
	return path
}

// saved writes a docker save archive of images with these names and returns its path. An image is
// for amd64 if its name contains amd64, otherwise for arm64.
func saved(t testing.TB, names ...string) string {
	t.Helper()
	images := map[name.Tag]v1.Image{}
	for _, n := range names {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		arch := "arm64"
		if strings.Contains(n, "amd64") {
			arch = "amd64"
		}
		images[tag] = image(t, arch)
		if n != names[0] && arch == "arm64" { // must differ from the first image
			config, err := images[tag].ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			config = config.DeepCopy()
			config.Author = n
			if images[tag], err = mutate.ConfigFile(images[tag], config); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.MultiWriteToFile(path, images); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCommonImages opens images in the forms that other programs write.
func TestCommonImages(t *testing.T) {
	arm, amd := image(t, "arm64"), image(t, "amd64")
	twoTags := writeLayout(t, with(t, with(t, empty.Index, arm, platform("arm64"), "3.22"), arm, platform("arm64"), "latest"))
	other := as(t, arm, "arm64")
	config, err := other.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Author = "other"
	if other, err = mutate.ConfigFile(other, config); err != nil {
		t.Fatal(err)
	}
	twoImages := writeLayout(t, with(t, with(t, empty.Index, arm, platform("arm64"), "3.22", "docker.io/library/base:3.22"), other, platform("arm64"), "edge", "docker.io/library/base:edge"))
	podman := writeLayout(t, with(t, with(t, empty.Index, arm, nil, "docker.io/library/base:3.22"), other, nil, "docker.io/library/base:edge"))
	partial := writeLayout(t, with(t, empty.Index, with(t, with(t, empty.Index, amd, platform("amd64")), arm, platform("arm64")), nil, "3.22"))
	forget(t, partial, amd)
	nested := writeLayout(t, with(t, empty.Index, with(t, with(t, empty.Index, amd, platform("amd64")), arm, platform("arm64")), nil))
	emptyPlatform := writeLayout(t, with(t, with(t, empty.Index, arm, &v1.Platform{}), amd, platform("amd64")))
	noArchitecture := writeLayout(t, with(t, with(t, empty.Index, as(t, arm, ""), &v1.Platform{OS: "linux"}), amd, platform("amd64")))
	aarch64 := writeLayout(t, with(t, with(t, empty.Index, as(t, arm, "aarch64"), platform("aarch64")), as(t, amd, "x86_64"), platform("x86_64")))
	several := saved(t, "base:3.22", "base:edge", "amd64:1")

	for _, tt := range []struct{ name, ref, digest string }{
		{"one digest under two tags", "oci:" + twoTags, digestOf(t, arm)},
		{"one digest under two tags, in a tar", pack(t, twoTags), digestOf(t, arm)},
		{"oci:DIR:TAG", "oci:" + twoImages + ":edge", digestOf(t, other)},
		{"oci:DIR:TAG by the name that containerd gives", "oci:" + twoImages + ":base:3.22", digestOf(t, arm)},
		{"oci:DIR:TAG by a part of the name", "oci:" + podman + ":edge", digestOf(t, other)},
		{"oci:DIR@DIGEST", "oci:" + twoImages + "@" + digestOf(t, other), digestOf(t, other)},
		{"oci-archive:FILE:TAG", "oci-archive:" + pack(t, twoImages) + ":edge", digestOf(t, other)},
		{"FILE.tar:TAG", pack(t, podman) + ":docker.io/library/base:edge", digestOf(t, other)},
		{"other platforms absent", "oci:" + partial, digestOf(t, arm)},
		{"other platforms absent, in a tar", pack(t, partial), digestOf(t, arm)},
		{"nested index", "oci:" + nested, digestOf(t, arm)},
		{"empty platform", "oci:" + emptyPlatform, digestOf(t, arm)},
		{"empty architecture", "oci:" + noArchitecture, digestOf(t, as(t, arm, ""))},
		{"aarch64", "oci:" + aarch64, digestOf(t, as(t, arm, "aarch64"))},
		{"docker save of several, by tag", several + ":base:edge", ""},
		{"docker-archive:FILE:TAG", "docker-archive:" + several + ":docker.io/library/base:3.22", ""},
		{"docker save of several, one for the platform", saved(t, "base:3.22", "amd64:1"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img, err := open(t, tt.ref, "arm64", "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if tt.digest != "" && img.Digest != tt.digest {
				t.Errorf("it is %s, not %s", img.Digest, tt.digest)
			}
			if got, err := content(t, img); err != nil || !bytes.Equal(got, layerTar(t, "arm64")) {
				t.Errorf("layer: %d bytes, %v", len(got), err)
			}
			again, err := open(t, tt.ref, "arm64", img.Digest, Options{})
			if err != nil || again.Digest != img.Digest {
				t.Errorf("by its digest: %v", err)
			}
			if _, err := Assemble(img.Digest, "arm64", img.Manifest, img.Config, func(string) (io.ReadCloser, int64, error) {
				return io.NopCloser(strings.NewReader("")), 0, nil
			}); err != nil {
				t.Errorf("assembled from its parts: %v", err)
			}
		})
	}

	onlyAMD := writeLayout(t, with(t, empty.Index, with(t, with(t, empty.Index, amd, platform("amd64")), arm, platform("arm64")), nil, "3.22"))
	forget(t, onlyAMD, arm)
	for _, tt := range []struct {
		name, ref, digest string
		want              []string
	}{
		{"several images", "oci:" + twoImages, "", []string{"has 2 images", "oci:" + twoImages + ":3.22", "oci:" + twoImages + ":edge"}},
		{"several images in a tar", "oci-archive:" + pack(t, podman), "", []string{"has 2 images", ":docker.io/library/base:3.22", ":docker.io/library/base:edge"}},
		{"docker save of several", several, "", []string{"has 2 images", several + ":base:3.22", several + ":base:edge"}},
		{"another tag", "oci:" + twoImages + ":3.23", "", []string{`no image "3.23"`, "3.22", "edge"}},
		{"another tag of docker save", several + ":base:3.23", "", []string{`no image "base:3.23"`, "base:3.22", "base:edge", "amd64:1"}},
		{"another platform", "oci:" + writeLayout(t, with(t, empty.Index, amd, platform("amd64"))), "", []string{"no image for linux/arm64", "linux/amd64"}},
		{"the platform absent", pack(t, onlyAMD), "", []string{"names an image for linux/arm64", "is not stored here", "--platform linux/arm64"}},
		{"another digest than the lock's", "oci:" + twoTags, zeroDigest, []string{digestOf(t, arm), zeroDigest, "--update-lock"}},
		{"another digest than the lock's, docker save", saved(t, "base:3.22"), zeroDigest, []string{zeroDigest, "--update-lock"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(t, tt.ref, "arm64", tt.digest, Options{})
			if err == nil {
				t.Fatal("it was opened")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
		})
	}
}

// TestNestedIndexInRegistry finds an image in an index that another index lists. Registries store
// signed releases this way.
func TestNestedIndexInRegistry(t *testing.T) {
	arm, amd := image(t, "arm64"), image(t, "amd64")
	inner := with(t, with(t, empty.Index, amd, platform("amd64")), arm, platform("arm64"))
	for _, tt := range []struct {
		name  string
		index v1.ImageIndex
		want  v1.Image
	}{
		{"nested", with(t, empty.Index, inner, nil), arm},
		{"empty platform", with(t, with(t, empty.Index, amd, platform("amd64")), arm, &v1.Platform{}), arm},
		{"aarch64", with(t, with(t, empty.Index, amd, platform("amd64")), as(t, arm, "aarch64"), platform("aarch64")), as(t, arm, "aarch64")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := registrytest.Start(t).Repository("library/base:3")
			tag, err := name.ParseReference(ref)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(tag, tt.index); err != nil {
				t.Fatal(err)
			}
			img, err := open(t, "docker://"+ref, "arm64", "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if img.Digest != digestOf(t, tt.want) {
				t.Errorf("it is %s", img.Digest)
			}
			if got, err := content(t, img); err != nil || !bytes.Equal(got, layerTar(t, "arm64")) {
				t.Errorf("layer: %d bytes, %v", len(got), err)
			}
			_, err = open(t, ref, "s390x", "", Options{})
			if err == nil || !strings.Contains(err.Error(), "no image for linux/s390x, only for linux/amd64") {
				t.Errorf("another platform: %v", err)
			}
		})
	}
}

// TestEndlessIndexes opens a layout whose index lists ten thousand images without a platform.
func TestEndlessIndexes(t *testing.T) {
	img := image(t, "amd64")
	index := v1.ImageIndex(empty.Index)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest = manifest.DeepCopy()
	for i := range 10000 {
		manifest.Manifests = append(manifest.Manifests, v1.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Size: 100,
			Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", i)}})
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	dir := writeLayout(t, with(t, empty.Index, img, nil))
	if err := os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, "oci:"+dir, "arm64", "", Options{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

// TestCompressedArchives opens archives that common tools have compressed.
func TestCompressedArchives(t *testing.T) {
	folder := writeLayout(t, index(t))
	for kind, path := range map[string]string{"docker save": saved(t, "base:3"), "OCI archive": pack(t, folder)} {
		plain, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := open(t, path, "arm64", "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		for suffix, command := range map[string][]string{
			".tar.gz": {"gzip", "-c"}, ".tar.xz": {"xz", "-c"}, ".txz": {"xz", "-c", "--block-size=4KiB", "--check=sha256"}, ".tar.zst": nil,
		} {
			t.Run(kind+suffix, func(t *testing.T) {
				var packed bytes.Buffer
				if command == nil {
					z, err := zstd.NewWriter(&packed)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := z.Write(plain); err != nil {
						t.Fatal(err)
					}
					if err := z.Close(); err != nil {
						t.Fatal(err)
					}
				} else {
					cmd := exec.Command(command[0], command[1:]...)
					cmd.Stdin, cmd.Stdout = bytes.NewReader(plain), &packed
					if err := cmd.Run(); err != nil {
						t.Fatal(err)
					}
				}
				t.Chdir(t.TempDir())
				if err := os.WriteFile("image"+suffix, packed.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				img, err := open(t, "image"+suffix, "arm64", "", Options{})
				if err != nil {
					t.Fatal(err)
				}
				if img.Digest != want.Digest {
					t.Errorf("it is %s, uncompressed %s", img.Digest, want.Digest)
				}
				if got, err := content(t, img); err != nil || !bytes.Equal(got, layerTar(t, "arm64")) {
					t.Errorf("layer: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// program returns the beginning of an ELF program for a machine number.
func program(machine byte) string {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18] = 2, machine
	return string(h)
}

// writeRoot writes files as a tar of a root file system and returns its path.
func writeRoot(t testing.TB, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRootFileSystem opens a plain tar of a root file system as an image of one layer.
func TestRootFileSystem(t *testing.T) {
	path := writeRoot(t, map[string]string{"./bin/busybox": program(183)})
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(t, path, "arm64", "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := content(t, img); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("layer: %d bytes, %v", len(got), err)
	}
	if _, err := open(t, path, "arm64", img.Digest, Options{}); err != nil {
		t.Errorf("by its digest: %v", err)
	}
	for _, tt := range []struct{ path, want string }{
		{writeRoot(t, map[string]string{"bin/busybox": program(62)}), "the image is for linux/amd64"},
		{writeRoot(t, map[string]string{"readme.txt": "hello"}), "root file system"},
		{writeRoot(t, nil), "root file system"},
	} {
		if _, err := open(t, tt.path, "arm64", "", Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// TestAlpineRootFileSystem opens Alpine's release archives.
func TestAlpineRootFileSystem(t *testing.T) {
	dir := os.Getenv("SOV_ALPINE_FIXTURES")
	if dir == "" {
		t.Skip("SOV_ALPINE_FIXTURES names no folder with Alpine's archives")
	}
	for goarch, alpine := range map[string]string{"arm64": "aarch64", "amd64": "x86_64"} {
		found, err := filepath.Glob(filepath.Join(dir, "alpine-minirootfs-*-"+alpine+".tar.gz"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no archive for %s in %s: %v", alpine, dir, err)
		}
		img, err := open(t, found[0], goarch, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := content(t, img); err != nil || len(got) < 1<<20 {
			t.Errorf("layer: %d bytes, %v", len(got), err)
		}
	}
}

// TestSavedWithLinks opens an archive of older Docker versions: they store a layer that two images
// share once, and as a symbolic link in the other image.
func TestSavedWithLinks(t *testing.T) {
	layer := layerTar(t, "arm64")
	img := image(t, "arm64")
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "old.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, e := range []struct{ name, link, content string }{
		{"two/layer.tar", "../one/layer.tar", ""},
		{"one/layer.tar", "", string(layer)},
		{"c.json", "", string(config)},
		{"manifest.json", "", `[{"Config":"c.json","RepoTags":null,"Layers":["two/layer.tar"]}]`},
	} {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	opened, err := open(t, path, "arm64", "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := content(t, opened); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("layer: %d bytes, %v", len(got), err)
	}
}
