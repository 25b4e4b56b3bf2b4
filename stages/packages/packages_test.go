package packages

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

func baseTree(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	root := tree.New()
	for name, content := range files {
		if err := root.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(content))}); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWanted(t *testing.T) {
	root := baseTree(t, map[string]string{"etc/apk/world": "alpine-base\nbusybox>1\n"})
	got, err := wanted(root, []string{"postgresql", "!alpine-base", "icu-libs>=74"})
	if err != nil || fmt.Sprint(got) != "[!alpine-base busybox>1 icu-libs>=74 postgresql]" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := wanted(root, []string{"a b"}); err == nil {
		t.Error("\"a b\" was taken for a package")
	}
}

func TestLocate(t *testing.T) {
	for _, repository := range []string{"https://example.org/main", "https://example.org/main/"} {
		if got := Locate(repository, "arm64", "x.apk"); got != "https://example.org/main/aarch64/x.apk" {
			t.Errorf("got %s", got)
		}
	}
	if got := Locate("/srv", "amd64", "x.apk"); got != "/srv/x86_64/x.apk" {
		t.Errorf("got %s", got)
	}
}

// newKey makes a key for packages and returns it with its public half in PEM.
func newKey(t *testing.T) (*apkbuild.Key, []byte) {
	t.Helper()
	key, err := apkbuild.NewKey("k.rsa.pub")
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func TestResolveRefuses(t *testing.T) {
	key, public := newKey(t)
	const pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
	tests := []struct {
		name string
		r    Request
		want string
	}{
		{"no keys", Request{Base: baseTree(t, nil)}, "there is no key to check package indexes with"},
		{"a bad key", Request{Base: baseTree(t, nil), Keys: map[string]string{"k.rsa.pub": pem}}, "key k.rsa.pub of the recipe"},
		{"no network", Request{Base: baseTree(t, nil), Keys: map[string]string{key.Name: string(public)}, Repositories: []string{"http://127.0.0.1:1/main"},
			Client: &fetch.Client{Attempts: 1}}, "connection refused (no connection? a build whose lock and cache are filled needs none) (--repository takes"},
		{"a bad database", Request{Base: baseTree(t, map[string]string{"lib/apk/db/installed": "P:x\nnonsense\n"}),
			Keys: map[string]string{key.Name: string(public)}}, "read the base image's packages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.Install, tt.r.Arch = []string{"a"}, "arm64"
			if tt.r.Repositories == nil {
				tt.r.Repositories = []string{"https://example.org/main"}
			}
			if tt.r.Client == nil {
				tt.r.Client = &fetch.Client{Transport: fetch.Offline}
			}
			_, err := Resolve(context.Background(), tt.r)
			if err == nil || errors.Is(err, fetch.ErrOffline) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	nothing, err := Resolve(context.Background(), Request{Base: baseTree(t, nil), Arch: "arm64"})
	if err != nil || len(nothing.Packages) != 0 {
		t.Errorf("nothing to install: %+v, %v", nothing, err)
	}
}

// TestVersion pins the installer's result. If it changes on purpose, raise version and update the
// digest: caches then do not return results of an older installer.
func TestVersion(t *testing.T) {
	const wantVersion, wantDigest = 4, "cfcbf278285ff35e56f829d738981a13a69a487777f8f17edb04fdebd2b3c0b7"
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "etc/new.conf", Mode: 0o640, Uname: "app", Uid: 5, Size: 3},
		{Typeflag: tar.TypeSymlink, Name: "etc/new.d", Linkname: "conf.d"},
	} {
		h.ModTime = time.Unix(1700000000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("new")[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	base := baseTree(t, map[string]string{"etc/passwd": "app:x:70:70::/:\n", "etc/apk/world": "old\n", "usr/share/old": "old",
		"lib/apk/db/installed": "C:Q1" + strings.Repeat("A", 27) + "=\nP:old\nV:1-r0\nA:noarch\nS:4\nI:4\nT:\nU:\nL:MIT\nF:usr/share\nR:old\n\n"})
	installed, err := apk.Installed(base)
	if err != nil {
		t.Fatal(err)
	}
	pkg := &apk.Package{Name: "new", Version: "1-r0", Arch: "noarch", Checksum: apk.SHA1Checksum([20]byte{1}), InstalledSize: 3}
	plan, err := apk.PlanInstall(base, apk.Changes{
		Add: []apk.Addition{{Package: pkg, Data: bytes.NewReader(data.Bytes()), Size: int64(data.Len()), Control: &apk.Control{Package: pkg,
			Triggers: []string{"/etc"}, Scripts: []apk.Script{{Type: "trigger", Body: []byte("#!/bin/sh\n")}}}}},
		Remove: installed,
		World:  []apk.Dep{{Name: "new"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if err := plan.WriteOverlay(sum); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); version != wantVersion || got != wantDigest {
		t.Errorf("version %d writes %s, want version %d to write %s", version, got, wantVersion, wantDigest)
	}
}

// mirror answers every request with an index.
type mirror struct{ index []byte }

func (m mirror) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Request: r, Header: http.Header{}, ContentLength: int64(len(m.index)),
		Body: io.NopCloser(bytes.NewReader(m.index))}, nil
}

// signedIndex returns an index with one package that was built at the time built.
func signedIndex(t *testing.T, key *apkbuild.Key, version string, built time.Time) []byte {
	t.Helper()
	p := apkbuild.Package{Info: apkbuild.Info{Name: "a", Version: version, Arch: "aarch64", License: "MIT", BuildTime: built}}
	entry, err := p.Write(io.Discard, key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := apkbuild.WriteIndex(&b, key, "test", []apkbuild.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestKeysOfAlpine rejects a base image's key for Alpine's own repositories.
func TestKeysOfAlpine(t *testing.T) {
	key, err := apkbuild.NewKey("alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub")
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	index := signedIndex(t, key, "1-r0", time.Unix(1700000000, 0))
	base := baseTree(t, map[string]string{"etc/apk/keys/" + key.Name: string(public)})
	for repository, trusted := range map[string]bool{
		"https://dl-cdn.alpinelinux.org/alpine/v3.22/main": false,
		"http://DL-CDN.alpinelinux.org/alpine/v3.22/main":  false,
		"https://alpinelinux.org.example.com/main":         true, // another domain
	} {
		r := Request{Base: base, Repositories: []string{repository}, Install: []string{"a"}, Arch: "arm64", Client: &fetch.Client{Transport: mirror{index}}}
		if _, err := Resolve(t.Context(), r); (err == nil) != trusted {
			t.Errorf("%s with the base image's key: %v", repository, err)
		}
		// A recipe may name keys for any repository.
		r.Keys = map[string]string{key.Name: string(public)}
		if _, err := Resolve(t.Context(), r); err != nil {
			t.Errorf("%s with the recipe's key: %v", repository, err)
		}
	}
	for _, arch := range []string{"arm64", "amd64"} {
		if keys, err := alpineKeys(arch); err != nil || len(keys) < 2 {
			t.Errorf("%s: %d keys, %v", arch, len(keys), err)
		}
	}
}

// TestOlderIndex warns about a repository whose index is older than the newest one seen.
func TestOlderIndex(t *testing.T) {
	key, public := newKey(t)
	seen := filepath.Join(t.TempDir(), "seen")
	warned := func(repository string, built time.Time) (texts []string) {
		t.Helper()
		_, err := Resolve(t.Context(), Request{Base: baseTree(t, nil), Repositories: []string{repository}, Install: []string{"a"}, Arch: "arm64",
			Keys: map[string]string{key.Name: string(public)}, Client: &fetch.Client{Transport: mirror{signedIndex(t, key, "1-r0", built)}},
			Seen: seen, Warn: func(text string) { texts = append(texts, text) }})
		if err != nil {
			t.Fatal(err)
		}
		return texts
	}
	first := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	const here, there = "https://example.org/main", "https://example.org/community"
	for i, step := range []struct {
		repository string
		built      time.Time
		warns      bool
	}{
		{here, first, false}, {here, first, false}, {there, first.AddDate(0, -6, 0), false}, {here, first.AddDate(0, 1, 0), false},
		{here, first, true}, {here, first, true}, {here, first.AddDate(0, 1, 0), false},
	} {
		got := warned(step.repository, step.built)
		if (len(got) > 0) != step.warns || step.warns && !(strings.Contains(got[0], "2026-05-01") && strings.Contains(got[0], "2026-06-01")) {
			t.Errorf("step %d: warnings %q", i, got)
		}
	}
}
