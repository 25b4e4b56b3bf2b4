package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// rootfsMax is the maximum size of a decompressed minirootfs, in bytes.
const rootfsMax = 256 << 20

// A base is the root of a base image: its layers, and the tree that they result in.
type base struct {
	name   string // description for people
	layers []v1.Layer
	root   *tree.Tree
}

// minirootfs returns the path of Alpine's newest minirootfs for the architecture, or "".
func minirootfs(fixtures string, a arch.Arch) string {
	if fixtures == "" {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(fixtures, "alpine-minirootfs-*-"+a.Alpine+".tar.gz"))
	if len(found) == 0 {
		return ""
	}
	return slices.Max(found)
}

// alpineBase returns the base with the unchanged content of Alpine's release file.
func alpineBase(file string) (*base, error) {
	compressed, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	plain, err := io.ReadAll(&limitedReader{zr, rootfsMax})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	b := &base{name: "Alpine's own " + strings.TrimSuffix(filepath.Base(file), ".tar.gz"), root: tree.New()}
	if err := b.root.ApplyTar(bytes.NewReader(plain), int64(len(plain)), tree.TarOptions{}); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	layer, err := layerOf(compressed)
	if err != nil {
		return nil, fmt.Errorf("make a layer of %s: %w", file, err)
	}
	b.layers = []v1.Layer{layer}
	return b, nil
}

// busyboxBase returns a base in Alpine's layout: the package mirror-baselayout, Debian's static
// busybox, and apk's database of both. It adds mirror-baselayout to entries.
func busyboxBase(a arch.Arch, packages []*apkbuild.Package, entries map[string]apkbuild.Entry) (*base, error) {
	busybox := packageNamed(packages, "busybox")
	if busybox == nil {
		return nil, errors.New("make the base image: no busybox among the packages")
	}
	layout := baselayout(a)
	entry, err := layout.Write(io.Discard, nil)
	if err != nil {
		return nil, err
	}
	entries[layout.Name] = entry
	b := &base{name: "a root in Alpine's layout with Debian's static busybox, as no Alpine minirootfs is at hand", root: tree.New()}
	for name, content := range map[string]string{
		"lib/apk/db/installed": "", "lib/apk/db/triggers": "", "lib/apk/db/lock": "",
		"lib/apk/db/scripts.tar": strings.Repeat("\x00", 1024), // an empty tar
		"etc/apk/arch":           a.Alpine + "\n",
		"etc/apk/repositories":   "# sov-mirror's address changes: give it with --repository\n",
		"etc/apk/world":          "",
	} {
		if err := putFile(b.root, name, content); err != nil {
			return nil, err
		}
	}
	if err := install(b.root, b.root, entries, []*apkbuild.Package{layout, busybox}); err != nil {
		return nil, err
	}
	if err := addWorld(b.root, b.root, "busybox", "mirror-baselayout"); err != nil {
		return nil, err
	}
	layer, err := treeLayer(b.root)
	if err != nil {
		return nil, err
	}
	b.layers = []v1.Layer{layer}
	return b, nil
}

// baselayout returns a package for the purpose of Alpine's alpine-baselayout and alpine-release.
func baselayout(a arch.Arch) *apkbuild.Package {
	dir := func(name string, mode int64) apkbuild.File {
		return apkbuild.File{Name: name, Type: apkbuild.Directory, Mode: mode}
	}
	text := func(name string, mode int64, content string) apkbuild.File {
		return apkbuild.File{Name: name, Type: apkbuild.Regular, Mode: mode, Data: []byte(content)}
	}
	return &apkbuild.Package{
		Info: apkbuild.Info{
			Name: "mirror-baselayout", Version: "1-r0", Arch: a.Alpine,
			Description: "Base folders and files of sov-mirror's base image",
		},
		Files: []apkbuild.File{
			dir("lib/apk/db", 0o755), dir("etc/apk/keys", 0o755), dir("var/cache/apk", 0o755),
			dir("dev", 0o755), dir("home", 0o755), dir("media", 0o755), dir("mnt", 0o755), dir("opt", 0o755),
			dir("proc", 0o555), dir("root", 0o700), dir("run", 0o755), dir("srv", 0o755), dir("sys", 0o555),
			dir("tmp", 0o1777), dir("usr/local/bin", 0o755), dir("var/empty", 0o555), dir("var/log", 0o755), dir("var/tmp", 0o1777),
			symlink("var/run", "../run"),
			text("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"),
			text("etc/group", 0o644, "root:x:0:root\ntty:x:5:\nnogroup:x:65533:\nnobody:x:65534:\n"),
			text("etc/shadow", 0o640, "root:*::0:::::\nnobody:!::0:::::\n"),
			text("etc/shells", 0o644, "/bin/sh\n/bin/ash\n"),
			text("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
			text("etc/hostname", 0o644, "localhost\n"),
			text("etc/profile", 0o644, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
			text("etc/os-release", 0o644, "NAME=\"sov mirror base\"\nID=sov-mirror\nID_LIKE=alpine\nVERSION_ID=1\nPRETTY_NAME=\"sov mirror base (in Alpine's layout, from Debian's programs)\"\n"),
		},
	}
}

// addKey adds a layer with the public key of the mirror's packages.
func (b *base) addKey(key *apkbuild.Key) error {
	public, err := key.PublicPEM()
	if err != nil {
		return err
	}
	overlay := tree.New()
	for _, t := range []*tree.Tree{overlay, b.root} {
		if err := putFile(t, "etc/apk/keys/"+key.Name, string(public)); err != nil {
			return err
		}
	}
	layer, err := treeLayer(overlay)
	if err != nil {
		return err
	}
	b.layers = append(b.layers, layer)
	return nil
}

func putFile(t *tree.Tree, name, content string) error {
	mode := uint32(0o644)
	if n, ok := t.Lookup(name); ok {
		mode = n.Mode & 0o7777
	}
	return t.Put(name, &tree.Inode{Mode: tree.S_IFREG | mode, Content: tree.Bytes([]byte(content))})
}

func readFile(t *tree.Tree, name string) (string, error) {
	_, n, err := t.Resolve(name)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(n.Content.Open())
	return string(content), err
}

// treeLayer returns a layer with the whole tree. It compresses the tree once; a layer of an
// uncompressed tar would be compressed at every use.
func treeLayer(t *tree.Tree) (v1.Layer, error) {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	zw.ModTime = time.Unix(0, 0) // no time in the header
	if err := errors.Join(t.WriteTar(zw), zw.Close()); err != nil {
		return nil, err
	}
	return layerOf(buf.Bytes())
}

// layerOf returns a layer of a tar that is compressed with gzip.
func layerOf(tarGz []byte) (v1.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(tarGz)), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func packageNamed(packages []*apkbuild.Package, name string) *apkbuild.Package {
	for _, p := range packages {
		if p.Name == name {
			return p
		}
	}
	return nil
}
