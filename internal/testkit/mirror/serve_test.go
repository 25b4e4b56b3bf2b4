package mirror_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sovereign-sql/sov/internal/testkit/mirror"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
)

// pull fetches the image of a reference for one platform.
func pull(t *testing.T, reference, goarch string) v1.Image {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch}))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// contents returns the regular files of an image's root by name, and links as "-> " and their
// target.
func contents(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	files := map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Clean(h.Name)] = string(content)
		if h.Typeflag == tar.TypeSymlink {
			files[path.Clean(h.Name)] = "-> " + h.Linkname
		}
	}
}

// get returns the body of a URL.
func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return body
}

// TestImages pulls every image for both platforms, as any client does.
func TestImages(t *testing.T) {
	m := mirrortest.Start(t)
	keyFile := "etc/apk/keys/" + filepath.Base(m.KeyFiles[0])
	for _, goarch := range []string{"arm64", "amd64"} {
		base := contents(t, pull(t, m.Image(), goarch))
		if !strings.Contains(base[keyFile], "PUBLIC KEY") {
			t.Errorf("%s: the base has no key %s", goarch, keyFile)
		}
		if base["bin/busybox"] == "" || !strings.Contains(base["lib/apk/db/installed"], "\nP:busybox\n") {
			t.Errorf("%s: the base has no busybox that its database knows of", goarch)
		}
		full := contents(t, pull(t, m.PostgresImage(), goarch))
		for file, want := range map[string]string{
			"usr/bin/postgres":                "-> /usr/libexec/postgresql/postgres",
			"usr/libexec/postgresql15/initdb": elf.ELFMAG,
			"etc/passwd":                      base["etc/passwd"] + "postgres:x:70:70:",
			"lib/apk/db/installed":            base["lib/apk/db/installed"],
			"etc/apk/world":                   "",
		} {
			if !strings.HasPrefix(full[file], want) {
				t.Errorf("%s: %s in %s does not begin with %.60q", goarch, file, m.PostgresImage(), want)
			}
		}
		if got := missingLibraries(t, full); len(got) > 0 {
			t.Errorf("%s: %s lacks libraries: %v", goarch, m.PostgresImage(), got)
		}
	}
}

// missingLibraries lists the libraries that ELF files for glibc need and their loader would not
// find.
func missingLibraries(t *testing.T, files map[string]string) []string {
	t.Helper()
	found := map[string]bool{}
	for file := range files {
		if strings.Contains(path.Dir(file), "-linux-gnu") || strings.Contains(path.Base(file), "ld-linux") {
			found[path.Base(file)] = true
		}
	}
	var missing []string
	checked := 0
	for file, content := range files {
		if !strings.HasPrefix(content, elf.ELFMAG) {
			continue
		}
		f, err := elf.NewFile(strings.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if slices.ContainsFunc(needed, func(s string) bool { return strings.HasPrefix(s, "libc.musl") }) || f.Section(".interp") != nil && strings.Contains(sectionText(t, f, ".interp"), "musl") {
			continue
		}
		checked++
		for _, soname := range needed {
			if !found[soname] {
				missing = append(missing, file+" needs "+soname)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d ELF files for glibc, want a server and its libraries", checked)
	}
	slices.Sort(missing)
	return missing
}

func sectionText(t *testing.T, f *elf.File, section string) string {
	t.Helper()
	data, err := f.Section(section).Data()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRepositoryClosure checks that every dependency in each index has a provider, without a
// solver, and that the packages have all libraries that their files need.
func TestRepositoryClosure(t *testing.T) {
	m := mirrortest.Start(t)
	for _, alpine := range []string{"aarch64", "x86_64"} {
		url := m.Repositories()[0] + "/" + alpine + "/"
		providers, files := map[string]string{"/bin/sh": ""}, map[string]string{}
		depends := map[string][]string{}
		for stanza := range strings.SplitSeq(indexText(t, get(t, url+"APKINDEX.tar.gz")), "\n\n") {
			fields := map[string]string{}
			for line := range strings.Lines(stanza) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
				fields[key] = value
			}
			if fields["P"] == "" {
				continue
			}
			for _, provided := range append(strings.Fields(fields["p"]), fields["P"]) {
				bare, _, _ := strings.Cut(provided, "=")
				providers[bare] = fields["P"]
			}
			depends[fields["P"]] = strings.Fields(fields["D"])
			addFiles(t, files, get(t, fmt.Sprintf("%s%s-%s.apk", url, fields["P"], fields["V"])))
		}
		for _, wanted := range []string{"postgresql", "postgresql-client", "postgresql-contrib", "icu-data-full", "e2fsprogs", "ca-certificates-bundle", "tzdata", "cmd:psql", "cmd:e2fsck"} {
			if providers[wanted] == "" {
				t.Errorf("%s: nothing provides %s", alpine, wanted)
			}
		}
		for pkg, deps := range depends {
			for _, dep := range deps {
				bare, _, _ := strings.Cut(dep, "=")
				if _, ok := providers[bare]; !ok {
					t.Errorf("%s: %s depends on %s, which nothing provides", alpine, pkg, dep)
				}
			}
		}
		// gconv's modules load each other from their folder.
		if got := missingLibraries(t, withoutGconv(files)); len(got) > 0 {
			t.Errorf("%s: libraries missing: %v", alpine, got)
		}
		if bundle := files["etc/ssl/certs/ca-certificates.crt"]; strings.Count(bundle, "BEGIN CERTIFICATE") < 100 {
			t.Errorf("%s: %d certificates in the bundle", alpine, strings.Count(bundle, "BEGIN CERTIFICATE"))
		}
	}
}

func withoutGconv(files map[string]string) map[string]string {
	for name := range files {
		if strings.Contains(name, "/gconv/") {
			delete(files, name)
		}
	}
	return files
}

// indexText returns the file APKINDEX of an index.
func indexText(t *testing.T, index []byte) string {
	t.Helper()
	files := map[string]string{}
	addFiles(t, files, index)
	return files["APKINDEX"]
}

// addFiles reads all streams of an .apk or index, which form one tar, into files.
func addFiles(t *testing.T, files map[string]string, file []byte) {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Clean(h.Name)] = string(content)
	}
}

// TestRanges requests the rest of an index and of a layer, as a client does to resume a download.
func TestRanges(t *testing.T) {
	m := mirrortest.Start(t, "amd64")
	layers, err := pull(t, m.Image(), "amd64").Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		m.Repositories()[0] + "/x86_64/APKINDEX.tar.gz",
		"http://" + m.Registry() + "/v2/library/alpine/blobs/" + digest.String(),
	} {
		whole := get(t, url)
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=100-")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusPartialContent || !bytes.Equal(rest, whole[100:]) {
			t.Errorf("%s from byte 100: %s, %d bytes of %d, %v", url, resp.Status, len(rest), len(whole), err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	m := mirrortest.Start(t, "amd64")
	for _, path := range []string{"/v2/library/alpine/blobs/uploads/", "/alpine/v3.22/main/x86_64/APKINDEX.tar.gz"} {
		resp, err := http.Post("http://"+m.Registry()+path, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
}

func TestClose(t *testing.T) {
	m := mirrortest.Start(t, "amd64")
	url := m.Repositories()[0] + "/x86_64/APKINDEX.tar.gz"
	get(t, url)
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if resp, err := http.Get(url); err == nil {
		resp.Body.Close()
		t.Errorf("still served after Close: %s", resp.Status)
	}
}

// TestBusyboxBase checks the base that is made without Alpine's minirootfs: its shell runs, and
// Alpine's apk reads its database and finds its files unchanged.
func TestBusyboxBase(t *testing.T) {
	m := mirrortest.StartWith(t, mirror.Options{Arches: []string{"amd64"}})
	if !strings.Contains(m.Describe(), "busybox") {
		t.Errorf("the description does not say what the base is:\n%s", m.Describe())
	}
	outer := alpineRoot(t)
	root := filepath.Join(outer, "base")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	untar := exec.Command("tar", "-x", "-C", root)
	r := mutate.Extract(pull(t, m.Image(), "amd64"))
	defer r.Close()
	untar.Stdin = r
	if out, err := untar.CombinedOutput(); err != nil {
		t.Fatalf("unpack the base: %v\n%s", err, out)
	}
	if got := inRoot(t, root, ". /etc/os-release; echo $ID; stat -c %a /tmp"); got != "sov-mirror\n1777" {
		t.Errorf("in the base: %q", got)
	}
	if got := inRoot(t, outer, "apk --root /base info | sort"); got != "busybox\nmirror-baselayout" {
		t.Errorf("apk finds installed: %q", got)
	}
	if got := inRoot(t, outer, "apk --root /base audit --full | grep -v -E 'etc/apk/|lib/apk/'"+" || true"); got != "" {
		t.Errorf("apk finds changed: %s", got)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/apk/repositories"), []byte(m.Repositories()[0]+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	inRoot(t, outer, "apk --root /base --no-scripts add tzdata ca-certificates-bundle")
}
