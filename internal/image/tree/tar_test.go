package tree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// makeTar writes a tar with these headers. A regular file contains its name, or Size zeros if Size
// is set.
func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := []byte(h.Name)
		if h.Typeflag != tar.TypeReg {
			content = nil
		} else if h.Size > 0 {
			content = make([]byte, h.Size)
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func reg(name string) tar.Header  { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
func tdir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}
func slink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func apply(tr *Tree, archive []byte, o TarOptions) error {
	return tr.ApplyTar(bytes.NewReader(archive), int64(len(archive)), o)
}

func TestApplyTar(t *testing.T) {
	lower := []tar.Header{tdir("./"), tdir("d/"), reg("d/a"), reg("d/b"), reg("f"), slink("ld", "d"), slink("lf", "/f"), slink("out", "../../d")}
	for _, c := range []struct {
		name    string
		options TarOptions
		tar     []tar.Header
		want    []string
	}{
		{"adds", TarOptions{}, []tar.Header{reg("./new"), reg("d/c")},
			[]string{"d/", `d/a = "d/a"`, `d/b = "d/b"`, `d/c = "d/c"`, `f = "f"`, "ld -> d", "lf -> /f", `new = "./new"`, "out -> ../../d"}},
		{"replaces a file", TarOptions{}, []tar.Header{reg("f"), reg("f"), reg("./f")},
			[]string{"d/", `d/a = "d/a"`, `d/b = "d/b"`, `f = "./f"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
		{"replaces a directory by a file", TarOptions{}, []tar.Header{reg("d")},
			[]string{`d = "d"`, `f = "f"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
		{"replaces a link by a directory", TarOptions{}, []tar.Header{tdir("ld"), reg("ld/x")},
			[]string{"d/", `d/a = "d/a"`, `d/b = "d/b"`, `f = "f"`, "ld/", `ld/x = "ld/x"`, "lf -> /f", "out -> ../../d"}},
		{"keeps a link to a directory", TarOptions{KeepDirSymlinks: true}, []tar.Header{tdir("ld"), reg("ld/x"), tdir("lf")},
			[]string{"d/", `d/a = "d/a"`, `d/b = "d/b"`, `d/x = "ld/x"`, `f = "f"`, "ld -> d", "lf/", "out -> ../../d"}},
		{"stays inside", TarOptions{}, []tar.Header{reg("out/x"), reg("lf2"), slink("abs", "/d"), reg("abs/y")},
			[]string{"abs -> /d", "d/", `d/a = "d/a"`, `d/b = "d/b"`, `d/x = "out/x"`, `d/y = "abs/y"`, `f = "f"`, "ld -> d", "lf -> /f", `lf2 = "lf2"`, "out -> ../../d"}},
		{"links", TarOptions{}, []tar.Header{link("h", "d/a"), link("d", "h"), link("h", "h"), link("s", "ld")},
			[]string{`d = "d/a"`, `f = "f"`, `h = "d/a"`, "ld -> d", "lf -> /f", "out -> ../../d", "s -> d"}},
		{"whiteouts", TarOptions{Whiteouts: true}, []tar.Header{reg(".wh.f"), reg("d/new"), reg("d/.wh.a"), reg("d/.wh..wh.plnk"), reg("none/.wh.x")},
			[]string{"d/", `d/b = "d/b"`, `d/new = "d/new"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
		{"opaque, after what it does not hide", TarOptions{Whiteouts: true}, []tar.Header{reg("d/new"), reg("d/.wh..wh..opq"), reg("f"), reg(".wh.f")},
			[]string{"d/", `d/new = "d/new"`, `f = "f"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
		{"whiteouts as files", TarOptions{}, []tar.Header{reg("d/.wh.a")},
			[]string{"d/", `d/.wh.a = "d/.wh.a"`, `d/a = "d/a"`, `d/b = "d/b"`, `f = "f"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
		{"skips", TarOptions{Skip: func(name string) bool { return strings.HasPrefix(name, "dev/") }}, []tar.Header{reg("./dev/null"), reg("g")},
			[]string{"d/", `d/a = "d/a"`, `d/b = "d/b"`, `f = "f"`, `g = "g"`, "ld -> d", "lf -> /f", "out -> ../../d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := New()
			must(t, apply(tr, makeTar(t, lower...), TarOptions{}), apply(tr, makeTar(t, c.tar...), c.options))
			equal(t, list(tr), c.want)
		})
	}
}

func TestApplyTarRefuses(t *testing.T) {
	good := makeTar(t, reg("good"))
	flipped := bytes.Clone(good)
	flipped[0] ^= 1
	nul := makeTar(t, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 200), Mode: 0o644})
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"..":                      {makeTar(t, reg("a/../../etc/passwd")), `".."`},
		"absolute":                {makeTar(t, reg("/etc/passwd")), "absolute"},
		"link to ..":              {makeTar(t, link("a", "../b")), `".."`},
		"link to absolute":        {makeTar(t, link("a", "/b")), "absolute"},
		"link to nothing":         {makeTar(t, link("a", "b")), "not exist"},
		"link to directory":       {makeTar(t, tdir("d"), link("a", "d")), "directory"},
		"through a file":          {makeTar(t, reg("f"), reg("f/x")), "not a directory"},
		"through a loop":          {makeTar(t, slink("l", "l"), reg("l/x")), "symbolic links"},
		"root as a file":          {makeTar(t, reg(".")), "root"},
		"NUL":                     {bytes.Replace(nul, []byte("path=nn"), []byte("path=\x00n"), 1), "NUL"},
		"long name":               {makeTar(t, reg(strings.Repeat("d/", 2100)+"x")), "more than"},
		"contiguous dump":         {makeTar(t, tar.Header{Typeflag: 'D', Name: "dump"}), "cannot be represented"},
		"flipped bit":             {flipped, "checksum"},
		"not a tar":               {bytes.Repeat([]byte("no tar"), 200), "not a tar"},
		"cut in the header":       {good[:300], "too early"},
		"cut in the content":      {makeTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 2000})[:1500], "too early"},
		"sparse map out of range": {sparseTar(t, "100,100,50,10", 200), "sparse map"},
		"sparse map too long":     {sparseTar(t, "0,300", 200), "sparse map"},
	} {
		err := apply(New(), c.archive, TarOptions{Whiteouts: true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", name, err, c.want)
		}
	}
	if err := apply(New(), makeTar(t, reg("d/.wh.")), TarOptions{Whiteouts: true}); err == nil {
		t.Error("a whiteout of nothing was accepted")
	}
}

// TestSparseMapWithoutEnd reads a sparse map whose only line is as long as the archive. It must be
// refused before it is in memory.
func TestSparseMapWithoutEnd(t *testing.T) {
	archive := append([]byte("1\n"), bytes.Repeat([]byte("0"), 1<<20)...)
	s := &tarScanner{src: bytes.NewReader(archive), size: int64(len(archive)), window: make([]byte, 0, tarWindow)}
	if _, _, err := s.readSparseMap(0, s.size); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("error %v, want one about lines that are too long", err)
	}
	if s.start > 2*tarWindow {
		t.Errorf("%d bytes were read of it", s.start)
	}
}

// sparseTar makes a tar that contains a sparse file in format 0.1 with this map and size.
func sparseTar(t testing.TB, sparseMap string, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	records := ""
	for _, r := range []string{"GNU.sparse.map=" + sparseMap, fmt.Sprintf("GNU.sparse.size=%d", size)} {
		n := len(r) + 2
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		records += fmt.Sprintf("%d %s\n", n, r)
	}
	w := tar.NewWriter(&buf)
	// archive/tar does not write such records. They are written as a file, whose type is then
	// changed to tarPAX.
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "records", Size: int64(len(records))}))
	_, err := io.WriteString(w, records)
	must(err)
	must(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Size: 150}))
	_, err = w.Write(bytes.Repeat([]byte("s"), 150))
	must(err)
	must(w.Close())
	b := buf.Bytes()
	b[156] = tarPAX
	setChecksum(b)
	return b
}

// setChecksum corrects a header's checksum.
func setChecksum(hdr []byte) {
	sum := 0
	for i, c := range hdr[:tarBlock] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(hdr[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// TestApplyTarOfGNUTar archives a real directory with GNU tar in each of its formats, and compares
// the trees.
func TestApplyTarOfGNUTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("tar is not installed")
	}
	src := t.TempDir()
	makeSource(t, src)
	for _, format := range []string{"gnu", "oldgnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0", "ustar", "v7"} {
		t.Run(format, func(t *testing.T) {
			args := []string{"-C", src, "-cf", "-", "--sort=name", "--format=" + strings.Fields(format)[0]}
			args = append(args, strings.Fields(format)[1:]...)
			if format != "ustar" && format != "v7" {
				args = append(args, "--sparse")
			} else {
				args = append(args, "--exclude=long*")
			}
			cmd := exec.Command("tar", append(args, ".")...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			archive, err := cmd.Output()
			if err != nil {
				t.Fatalf("tar: %v\n%s", err, stderr.Bytes())
			}
			tr := New()
			must(t, apply(tr, archive, TarOptions{}))
			compareWithReader(t, tr, archive)
			n, ok := tr.Lookup("sparse")
			if !ok || n.Content.Size != 3<<20+5 {
				t.Fatalf("sparse: %+v", n)
			}
			if want, _ := os.ReadFile(filepath.Join(src, "sparse")); !bytes.Equal(readAll(t, n), want) {
				t.Error("sparse: bytes differ")
			}
			if strings.Contains(strings.Join(args, " "), "--sparse") && len(n.Content.Extents) < 2 {
				t.Errorf("sparse: has the extents %v", n.Content.Extents)
			}
		})
	}
}

func makeSource(t *testing.T, dir string) {
	t.Helper()
	long := strings.Repeat("long", 60)
	must(t,
		os.WriteFile(filepath.Join(dir, "file"), []byte("file"), 0o640),
		os.WriteFile(filepath.Join(dir, long), []byte("long"), 0o600),
		os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.Symlink(long, filepath.Join(dir, "longlink")),
		os.Symlink("file", filepath.Join(dir, "d", "link")),
		os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "zz")),
		os.Chtimes(filepath.Join(dir, "file"), time.Unix(1, 0), time.Unix(1234567890, 123456789)),
	)
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	defer f.Close()
	for i := range int64(30) { // more pieces than fit in a header and one block after it
		_, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i%26)}, 4096), i*100<<10)
		must(t, err)
	}
	must(t, f.Truncate(3<<20+5))
}

// compareWithReader compares the tree with the entries that archive/tar reads.
func compareWithReader(t *testing.T, tr *Tree, archive []byte) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		must(t, err)
		n, ok := tr.Lookup(h.Name)
		if !ok {
			t.Errorf("%s: missing", h.Name)
			continue
		}
		if h.Typeflag == tar.TypeLink {
			if target, _ := tr.Lookup(h.Linkname); target != n {
				t.Errorf("%s: not the same as %s", h.Name, h.Linkname)
			}
			continue
		}
		if n.Mode&0o7777 != uint32(h.Mode) || int(n.UID) != h.Uid || int(n.GID) != h.Gid || !n.ModTime.Equal(h.ModTime) || n.Target != h.Linkname {
			t.Errorf("%s: %+v, want %+v", h.Name, n, h)
		}
		if content, err := io.ReadAll(r); err != nil || n.IsRegular() && !bytes.Equal(content, readAll(t, n)) {
			t.Errorf("%s: content differs, %v", h.Name, err)
		}
	}
}

func readAll(t *testing.T, n *Inode) []byte {
	t.Helper()
	b, err := io.ReadAll(n.Content.Open())
	must(t, err)
	return b
}

// everything returns a tree with every kind of entry that a tar can hold.
func everything(t *testing.T) *Tree {
	tr := New()
	shared := file("shared")
	must(t,
		tr.Put(".", &Inode{Mode: S_IFDIR | 0o1777, UID: 1, GID: 2, ModTime: time.Unix(3, 4)}),
		tr.Put("a", shared),
		tr.Put("b/a", shared),
		tr.Put("b/fifo", &Inode{Mode: S_IFIFO | 0o600}),
		tr.Put("b/char", &Inode{Mode: S_IFCHR | 0o666, Major: 1, Minor: 3}),
		tr.Put("b/block", &Inode{Mode: S_IFBLK | 0o660, Major: 259, Minor: 1 << 19}),
		tr.Put("c", &Inode{Mode: S_IFREG | 0o4755, UID: 1 << 31, GID: 1<<32 - 1, ModTime: time.Unix(-5, 7), Content: Bytes(make([]byte, 5000)),
			Xattrs: map[string][]byte{"security.capability": {1, 0, 0, 2, 0}, "user.x": []byte("=\n")}}),
		tr.Put("d", symlink(strings.Repeat("long/", 100))),
		tr.Put(strings.Repeat("n", 255)+"/é", file("name")),
	)
	return tr
}

func TestWriteTarRoundTrip(t *testing.T) {
	want := everything(t)
	var first, second bytes.Buffer
	must(t, want.WriteTar(&first), want.WriteTar(&second))
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two tars of a tree differ")
	}
	got := New()
	must(t, apply(got, first.Bytes(), TarOptions{}))
	equal(t, list(got), list(want))
	_ = want.Walk(func(p string, n *Inode) error {
		g, ok := got.Lookup(p)
		if !ok {
			t.Errorf("%s: missing", p)
			return nil
		}
		at := n.ModTime
		if at.IsZero() {
			at = time.Unix(0, 0)
		}
		if g.Mode != n.Mode || g.UID != n.UID || g.GID != n.GID || !g.ModTime.Equal(at) || g.Target != n.Target ||
			g.Major != n.Major || g.Minor != n.Minor || g.Nlink() != n.Nlink() || !maps.EqualFunc(g.Xattrs, n.Xattrs, bytes.Equal) {
			t.Errorf("%s: %+v\nwant %+v", p, g, n)
		}
		return nil
	})
	must(t, want.Put("socket", &Inode{Mode: S_IFSOCK}))
	if want.WriteTar(io.Discard) == nil {
		t.Error("a socket was written to a tar")
	}
}

// TestApplyTarOfAlpine compares the tree of a real layer with the entries that archive/tar reads.
func TestApplyTarOfAlpine(t *testing.T) {
	fixtures := os.Getenv("SOV_ALPINE_FIXTURES")
	if fixtures == "" {
		fixtures = filepath.Join("..", "..", "..", "..", "shared", "alpine")
	}
	names, _ := filepath.Glob(filepath.Join(fixtures, "*.tar.gz"))
	if len(names) == 0 {
		t.Skip("Alpine's minirootfs is not in SOV_ALPINE_FIXTURES")
	}
	for _, name := range names {
		f, err := os.Open(name)
		must(t, err)
		defer f.Close()
		z, err := gzip.NewReader(f)
		must(t, err)
		archive, err := io.ReadAll(z)
		must(t, err)
		tr := New()
		must(t, apply(tr, archive, TarOptions{Whiteouts: true}))
		compareWithReader(t, tr, archive)
	}
}

// FuzzApplyTar requires that every tar is refused or makes a sound tree, without entries that
// archive/tar does not find in the tar.
func FuzzApplyTar(f *testing.F) {
	f.Add(makeTar(f, tdir("d/"), reg("d/a"), link("b", "d/a"), slink("l", "../x"), reg("l/y")))
	f.Add(makeTar(f, reg("d/.wh.a"), reg(".wh..wh..opq"), tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}))
	f.Add(makeTar(f, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("p", 200), Uid: 1 << 30, ModTime: time.Unix(-1, 5), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.user.a": "\x00"}}))
	f.Add(makeTar(f, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("g", 200), Uid: 1 << 30, Format: tar.FormatGNU}))
	f.Add(sparseTar(f, "0,100,120,50", 200))
	f.Fuzz(func(t *testing.T, archive []byte) {
		defer costtest.Text.Watch(t, len(archive))()
		// Without this nearly every input fails at a wrong checksum.
		archive = bytes.Clone(archive)
		for b := archive; len(b) >= tarBlock; b = b[tarBlock:] {
			if string(b[257:262]) == "ustar" {
				setChecksum(b)
			}
		}
		tr := New()
		err := apply(tr, archive, TarOptions{Whiteouts: len(archive)%2 == 0})
		checkSound(t, tr, int64(len(archive)))
		if err == nil {
			return
		}
		if strings.Contains(err.Error(), "%!") || errors.Is(err, io.EOF) {
			t.Errorf("error is not fit to be read: %v", err)
		}
	})
}

// checkSound checks the invariants of a tree that was read from an archive of size bytes.
func checkSound(t *testing.T, tr *Tree, size int64) {
	names := make(map[*Inode]int)
	_ = tr.Walk(func(p string, n *Inode) error {
		if strings.HasPrefix(p, "/") || strings.Contains("/"+p+"/", "/../") {
			t.Errorf("%q leads out of the tree", p)
		}
		if found, ok := tr.Lookup(p); !ok || found != n {
			t.Errorf("%q is not found", p)
		}
		if err := n.Content.Validate(); err != nil {
			t.Errorf("%q: %v", p, err)
		}
		for _, e := range n.Content.Extents {
			if e.SourceOffset+e.Length > size {
				t.Errorf("%q: content outside of the archive", p)
			}
		}
		names[n]++
		return nil
	})
	for n, count := range names {
		if !n.IsDir() && n.Nlink() != count {
			t.Errorf("%d links counted, %d found", n.Nlink(), count)
		}
	}
}

// TestGlobalAttributes applies a global header of extended attributes to every file that follows,
// as pax(1) requires. Memory must not multiply by the number of files.
func TestGlobalAttributes(t *testing.T) {
	records := map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 60<<10)}
	headers := []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: records}}
	for i := range 6000 {
		headers = append(headers, tdir(fmt.Sprintf("d%d/", i)))
	}
	archive := makeTar(t, headers...)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(archive)
	z.Close()
	cost := costtest.Budget{Base: 16 << 20, Ratio: 16}.Run(t, len(archive), func() {
		if err := apply(New(), archive, TarOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d bytes, %d compressed: %d MiB allocated", len(archive), packed.Len(), cost>>20)
	for name, value := range map[string]string{"user.a": strings.Repeat("v", 65<<10), strings.Repeat("n", 300): "v"} {
		h := tdir("d/")
		h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr." + name: value}
		if err := apply(New(), makeTar(t, h), TarOptions{}); err == nil || !strings.Contains(err.Error(), "attribute") {
			t.Errorf("attribute %.10q of %d bytes: %v", name, len(value), err)
		}
	}
}

// TestApplyTarRooted applies layers whose names begin with a slash.
func TestApplyTarRooted(t *testing.T) {
	tr := New()
	err := apply(tr, makeTar(t, tdir("/"), tdir("//usr/"), reg("/usr/tool"), link("/usr/link", "//usr/tool"), slink("/bin", "/usr"), reg("/.wh.gone")),
		TarOptions{Rooted: true, Whiteouts: true})
	if err != nil {
		t.Fatal(err)
	}
	one, ok := tr.Lookup("usr/tool")
	if two, also := tr.Lookup("usr/link"); !ok || !also || one != two {
		t.Error("/usr/tool and its hard link are not one file")
	}
	if n, ok := tr.Lookup("bin"); !ok || n.Target != "/usr" {
		t.Errorf("/bin is %+v: a symbolic link's target is what the guest sees", n)
	}
	for _, h := range []tar.Header{reg("/../etc/passwd"), reg("/usr/../../passwd"), link("/x", "/../usr/tool"), link("/x", "/usr/none")} {
		if err := apply(tr, makeTar(t, h), TarOptions{Rooted: true}); err == nil {
			t.Errorf("%s -> %s was applied", h.Name, h.Linkname)
		}
	}
}
