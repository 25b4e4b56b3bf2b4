package overlay

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
)

var someTime = time.Unix(1700000000, 0)

// named is a stage of which only the name is used.
type named string

func (n named) Name() string                           { return string(n) }
func (named) Needs() []string                          { return nil }
func (named) Key(*pipeline.Key, pipeline.Inputs) error { return nil }
func (named) Run(context.Context, *pipeline.Job) error { return nil }

// A shelf is an output.Source whose blobs are files.
type shelf struct {
	t       *testing.T
	outputs map[string][]pipeline.Output
	paths   map[pipeline.Digest]string
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t, map[string][]pipeline.Output{}, map[pipeline.Digest]string{}}
}

func (s *shelf) Outputs(stage string) []pipeline.Output { return s.outputs[stage] }
func (s *shelf) Open(b pipeline.Blob) (*os.File, error) { return os.Open(s.paths[b.Digest]) }

func (s *shelf) put(stage, name string, content []byte) {
	s.t.Helper()
	digest := pipeline.DigestOf(content)
	s.paths[digest] = filepath.Join(s.t.TempDir(), "blob")
	if err := os.WriteFile(s.paths[digest], content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.outputs[stage] = append(s.outputs[stage], pipeline.Output{Name: name, Blob: pipeline.Blob{Digest: digest, Size: int64(len(content))}})
}

func (s *shelf) share(stage, name string, headers ...tar.Header) {
	s.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.ModTime, h.Mode = someTime, 0o755
		if err := w.WriteHeader(&h); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.put(stage, name, b.Bytes())
}

func TestMergeOrderAndLinks(t *testing.T) {
	s := newShelf(t)
	s.share("base", "layer-000.tar",
		tar.Header{Name: "usr/sbin/", Typeflag: tar.TypeDir}, tar.Header{Name: "sbin", Typeflag: tar.TypeSymlink, Linkname: "usr/sbin"},
		tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"}, tar.Header{Name: "gone", Typeflag: tar.TypeReg})
	s.share("base", "layer-001.tar", tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg}, tar.Header{Name: "lib/", Typeflag: tar.TypeDir})
	s.put("base", "image.json", []byte("not a tar"))
	s.share("packages", "a-1.tar", tar.Header{Name: "sbin/", Typeflag: tar.TypeDir}, tar.Header{Name: "sbin/tool", Typeflag: tar.TypeReg})
	s.share("elsewhere", "x.tar", tar.Header{Name: "x", Typeflag: tar.TypeReg})

	m, err := Merge(s, Share{Stage: named("base"), ImageLayers: true}, Share{Stage: named("packages")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, ok := m.Lookup("gone"); ok {
		t.Error("a whiteout of an upper layer was not heeded")
	}
	if n, ok := m.Lookup("lib"); !ok || !n.IsDir() {
		t.Error("a layer's directory did not replace a link")
	}
	if n, ok := m.Lookup("sbin"); !ok || !n.IsSymlink() {
		t.Error("a package's directory replaced the base's link")
	}
	if _, ok := m.Lookup("usr/sbin/tool"); !ok {
		t.Error("a package's file did not follow the base's link")
	}
	if _, ok := m.Lookup("x"); ok {
		t.Error("a stage that was not named was merged")
	}
}

func TestShares(t *testing.T) {
	list := []pipeline.Stage{named("kernel"), Share{Stage: named("base")}, named("runner"), Share{Stage: named("last")}}
	if got := Names(Shares(list...)); !slices.Equal(got, []string{"base", "last"}) {
		t.Errorf("the shares are %q", got)
	}
}

func TestMergeEmptyShare(t *testing.T) {
	s := newShelf(t)
	s.put("motd", "motd", []byte("not a tar"))
	if _, err := Merge(s, Share{Stage: named("motd"), MayBeEmpty: true}); err != nil {
		t.Error(err)
	}
	if _, err := Merge(s, Share{Stage: named("motd")}); err == nil || !strings.Contains(err.Error(), "stage motd ") {
		t.Errorf("an empty share: %v", err)
	}
}

func TestMergeRefusesHostileShares(t *testing.T) {
	for name, layers := range map[string]bool{"../escape": true, "/../escape": true, "/absolute": false} {
		s := newShelf(t)
		s.share("base", "layer-000.tar", tar.Header{Name: name, Typeflag: tar.TypeReg})
		if m, err := Merge(s, Share{Stage: named("base"), ImageLayers: layers}); err == nil {
			m.Close()
			t.Errorf("%s was applied", name)
		}
	}
	s := newShelf(t)
	s.share("base", "layer-000.tar", tar.Header{Name: "/absolute", Typeflag: tar.TypeReg}, tar.Header{Name: "/link", Linkname: "/absolute", Typeflag: tar.TypeLink})
	m, err := Merge(s, Share{Stage: named("base"), ImageLayers: true})
	if err != nil {
		t.Fatalf("an image's layer with absolute names: %v", err)
	}
	defer m.Close()
	if _, ok := m.Lookup("link"); !ok {
		t.Error("the link of a layer with absolute names is missing")
	}
}

func TestBuilder(t *testing.T) {
	build := func(order []int) []byte {
		b := NewBuilder(someTime)
		steps := []func(){
			func() { b.File("/etc/sov/x", 0o640, []byte("x")) },
			func() { b.Directory("etc/sov", 0o755, 0, 0) },
			func() { b.Symlink("etc/link", "sov/x") },
			func() { b.Directory("srv/app", 0o2750, 70, 71) },
			func() { b.Replace("etc/shadow", &tree.Inode{Mode: tree.S_IFREG | 0o640, GID: 42}, []byte("s")) },
		}
		for _, i := range order {
			steps[i]()
		}
		var out bytes.Buffer
		if err := b.WriteTar(&out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	one := build([]int{0, 1, 2, 3, 4})
	if !bytes.Equal(one, build([]int{4, 3, 2, 1, 0})) {
		t.Error("the order of adding shows in the share")
	}
	below := tree.New()
	etc := &tree.Inode{Mode: tree.S_IFDIR | 0o711, UID: 5}
	if err := below.Put("etc", etc); err != nil {
		t.Fatal(err)
	}
	if err := Apply(below, bytes.NewReader(one), int64(len(one))); err != nil {
		t.Fatal(err)
	}
	if n, _ := below.Lookup("etc"); n.Mode != tree.S_IFDIR|0o711 || n.UID != 5 {
		t.Error("a directory on the way was changed")
	}
	if n, ok := below.Lookup("srv/app"); !ok || n.Mode != tree.S_IFDIR|0o2750 || n.UID != 70 || n.GID != 71 || !n.ModTime.Equal(someTime) {
		t.Errorf("srv/app: %+v", n)
	}
	if n, ok := below.Lookup("etc/shadow"); !ok || n.Mode != tree.S_IFREG|0o640 || n.GID != 42 {
		t.Errorf("etc/shadow: %+v", n)
	}
	if got, err := ReadFile(below, "etc/link", 10); err != nil || string(got) != "x" {
		t.Errorf("etc/link: %q, %v", got, err)
	}
	if _, err := ReadFile(below, "etc/none", 10); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("etc/none: %v", err)
	}
	if newest, err := Newest(below); err != nil || !newest.Equal(someTime) {
		t.Errorf("newest: %v, %v", newest, err)
	}
}
