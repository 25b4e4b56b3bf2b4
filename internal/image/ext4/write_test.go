//go:build linux

package ext4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// writeImage writes a tree to a new file and returns its path and statistics.
func writeImage(t testing.TB, tr *tree.Tree, o Options) (string, Stats) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stats, err := Write(context.Background(), f, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	return path, stats
}

// TestWriteCorpus reads images of all kinds with every available reader.
func TestWriteCorpus(t *testing.T) {
	for _, c := range corpus() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := c.build(t)
			image, stats := writeImage(t, want, c.options)
			t.Run("e2fsck", func(t *testing.T) { checkByE2fsck(t, image) })
			t.Run("own reader", func(t *testing.T) { compareByReader(t, image, want) })
			if stats.BlockSize <= os.Getpagesize() { // the kernel mounts no others
				t.Run("kernel", func(t *testing.T) { compareByKernel(t, image, want) })
			}
			t.Run("debugfs", func(t *testing.T) { compareByDebugfs(t, image, want) })
			t.Run("again", func(t *testing.T) {
				second, _ := writeImage(t, want, c.options)
				if a, b := hashFile(t, image), hashFile(t, second); a != b {
					t.Errorf("two images of a tree differ: %x, %x", a, b)
				}
			})
			checkStats(t, image, stats, c.options)
		})
	}
}

// e2fsckSilent matches e2fsck's whole output for an image without problems.
var e2fsckSilent = regexp.MustCompile(`^e2fsck [^\n]*\n(Pass [1-5][^\n]*\n){5}[^\n]*: \d+/\d+ files \(\d+\.\d% non-contiguous\), \d+/\d+ blocks\n$`)

func checkByE2fsck(t *testing.T, image string) {
	needTools(t, "e2fsck")
	if out := command(t, "e2fsck", "-fn", image); !e2fsckSilent.MatchString(out) {
		t.Errorf("e2fsck has something to say:\n%s", out)
	}
}

func compareByReader(t *testing.T, image string, want *tree.Tree) {
	f := open(t, image)
	wantClean(t, f)
	got, err := f.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := want.Lookup(lostAndFoundName); !ok {
		got.Remove(lostAndFoundName)
	}
	changes, err := tree.Diff(want, got)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes[:min(20, len(changes))] {
		t.Errorf("%+v", c)
	}
}

func hashFile(t *testing.T, path string) (sum [sha256.Size]byte) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	h.Sum(sum[:0])
	return sum
}

// checkStats compares the statistics that Write returned with the image and the options.
func checkStats(t *testing.T, image string, stats Stats, o Options) {
	t.Helper()
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != stats.Size || o.Size != 0 && stats.Size != o.Size {
		t.Errorf("image has %d bytes, stats say %d, options %d", info.Size(), stats.Size, o.Size)
	}
	if o.Size == 0 && stats.FreeBytes > stats.Size/100+int64(stats.BlockSize) {
		t.Errorf("%d of %d bytes are free in an image as small as its content", stats.FreeBytes, stats.Size)
	}
	if o.UUID != [16]byte{} && stats.UUID != o.UUID || stats.UUID == [16]byte{} {
		t.Errorf("UUID is %x, want %x", stats.UUID, o.UUID)
	}
}

// TestUUIDTellsImagesApart changes one property at a time; each image must have another UUID.
func TestUUIDTellsImagesApart(t *testing.T) {
	uuids := make(map[[16]byte]string)
	add := func(name, content string, at time.Time, o Options) {
		b := corpusBuilder{t, tree.New()}
		b.put("f", &tree.Inode{Mode: tree.S_IFREG | 0o644, ModTime: at, Content: tree.Bytes([]byte(content))})
		_, stats := writeImage(t, b.tree, o)
		if other, ok := uuids[stats.UUID]; ok {
			t.Errorf("%s and %s have the same UUID", name, other)
		}
		uuids[stats.UUID] = name
	}
	at := time.Unix(1, 0)
	add("first", "content", at, Options{})
	add("a byte", "Content", at, Options{})
	add("a time", "content", at.Add(1), Options{})
	add("label", "content", at, Options{Label: "l"})
	add("size", "content", at, Options{Size: 1 << 20})
}

// TestSameBytesFromAnySource writes the same files from sources with different extents.
func TestSameBytesFromAnySource(t *testing.T) {
	data := randomBytes(1, 3<<20)
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := bytes.NewReader(data)
	whole := int64(len(data))
	for _, o := range []Options{{}, {UUID: [16]byte{1}}} {
		var sums [][sha256.Size]byte
		for _, content := range []tree.Content{
			tree.Bytes(data),
			tree.Section(file, 0, whole),
			tree.Section(io.NewSectionReader(file, 0, whole), 0, whole),
			{Size: whole, Extents: []tree.Extent{
				{Offset: 0, Length: 1000, Source: file},
				{Offset: 1000, Length: 2 << 20, Source: file, SourceOffset: 1000},
				{Offset: 1000 + 2<<20, Length: whole - 1000 - 2<<20, Source: r, SourceOffset: 1000 + 2<<20},
			}},
		} {
			b := corpusBuilder{t, tree.New()}
			b.file("before", tree.Bytes([]byte("before")))
			b.file("f", content)
			b.file("g", tree.Bytes([]byte("after")))
			image, _ := writeImage(t, b.tree, o)
			sums = append(sums, hashFile(t, image))
		}
		for i := range sums {
			if sums[i] != sums[0] {
				t.Errorf("source %d gives another image", i)
			}
		}
	}
}

// discard is a target that discards what is written.
type discard struct{ size int64 }

func (d *discard) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("write to %d behind the end at %d", off+int64(len(p)), d.size)
	}
	return len(p), nil
}

func (d *discard) Truncate(size int64) error {
	d.size = size
	return nil
}

// TestWriteRefuses tests trees and options that cannot become an image, each with a part of its
// error.
func TestWriteRefuses(t *testing.T) {
	with := func(p string, n *tree.Inode) func(corpusBuilder) {
		return func(b corpusBuilder) { b.put(p, n) }
	}
	regular := func(c tree.Content) *tree.Inode { return &tree.Inode{Mode: tree.S_IFREG, Content: c} }
	xattrs := func(name string, value []byte) *tree.Inode {
		return &tree.Inode{Mode: tree.S_IFREG, Xattrs: map[string][]byte{name: value}}
	}
	nothing := func(corpusBuilder) {}
	for _, c := range []struct {
		name    string
		options Options
		build   func(corpusBuilder)
		want    []string
	}{
		{"long name", Options{}, with("d/"+strings.Repeat("n", 256), regular(tree.Content{})), []string{"d/nnn", "255"}},
		{"NUL in name", Options{}, with("d/a\x00b", regular(tree.Content{})), []string{"cannot be a name"}},
		{"long target", Options{}, with("l", &tree.Inode{Mode: tree.S_IFLNK, Target: strings.Repeat("t", 4096)}), []string{"l: ", "target"}},
		{"target longer than a block", Options{BlockSize: 1024}, with("l", &tree.Inode{Mode: tree.S_IFLNK, Target: strings.Repeat("t", 1024)}), []string{"l: ", "1023"}},
		{"no target", Options{}, with("l", &tree.Inode{Mode: tree.S_IFLNK}), []string{"l: ", "no target"}},
		{"device", Options{}, with("dev/x", &tree.Inode{Mode: tree.S_IFCHR, Major: 4096}), []string{"dev/x", "4096:0"}},
		{"no type", Options{}, with("x", &tree.Inode{Mode: 0o644}), []string{"x: ", "no file type"}},
		{"file too large", Options{}, with("d/huge", regular(tree.Content{Size: 1 << 45})), []string{"d/huge"}},
		{"bad extents", Options{}, with("d/bad", regular(tree.Content{Size: 1, Extents: []tree.Extent{{Length: 2, Source: bytes.NewReader(nil)}}})), []string{"d/bad", "extent"}},
		{"xattr of no namespace", Options{}, with("x", xattrs("colour", nil)), []string{"x: ", `"colour"`}},
		{"xattr without a name", Options{}, with("x", xattrs("user.", nil)), []string{"x: ", `"user."`}},
		{"xattr too large", Options{}, with("x", xattrs("user.a", make([]byte, 5000))), []string{"x: ", "block of 4096"}},
		{"bad ACL", Options{}, with("x", xattrs("system.posix_acl_access", []byte("u::rw"))), []string{"x: ", "ACL"}},
		{"default ACL of a file", Options{}, with("x", xattrs("system.posix_acl_default", []byte(corpusACL))), []string{"x: ", "director"}},
		{"short source", Options{}, with("d/short", regular(tree.Section(bytes.NewReader(make([]byte, 5000)), 0, 6000))), []string{"d/short", "EOF"}},
		{"short source, given UUID", Options{UUID: [16]byte{1}}, with("d/short", regular(tree.Section(bytes.NewReader(make([]byte, 5000)), 0, 6<<20))), []string{"d/short", "EOF"}},
		{"image too small for a file", Options{Size: 1 << 20}, with("d/large", regular(tree.Section(&corpusReader{1 << 20}, 0, 1<<20))), []string{"d/large", "no room"}},
		{"image too small for anything", Options{Size: 1 << 14}, nothing, []string{"16384", "too small"}},
		{"image too small for inodes", Options{Size: 1 << 20, Inodes: 5000}, nothing, []string{"inode tables", "no room"}},
		{"journal larger than image", Options{Size: 8 << 20, Journal: 16 << 20}, nothing, []string{"journal", "no room"}},
		{"journal too small", Options{Journal: 1 << 20}, nothing, []string{"journal", "1024 blocks"}},
		{"block size", Options{BlockSize: 3000}, nothing, []string{"3000"}},
		{"label", Options{Label: "seventeen bytes ."}, nothing, []string{"label", "16"}},
		{"negative size", Options{Size: -1}, nothing, []string{"negative"}},
	} {
		b := corpusBuilder{t, tree.New()}
		c.build(b)
		_, err := Write(context.Background(), &discard{}, b.tree, c.options)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", c.name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "no room") != errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: error %v is not ENOSPC", c.name, err)
		}
	}
}

func TestTooManyLinks(t *testing.T) {
	b := corpusBuilder{t, tree.New()}
	b.file("first", tree.Content{})
	for i := range linkMax {
		b.link("first", fmt.Sprintf("d/%d", i))
	}
	if _, err := Write(context.Background(), &discard{}, b.tree, Options{}); err == nil || !strings.Contains(err.Error(), "names") {
		t.Errorf("error %v, want one about names", err)
	}
}

// A failingTarget fails every write that ends after an offset.
type failingTarget struct {
	discard
	from int64
}

var errTarget = errors.New("the target is broken")

func (f *failingTarget) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errTarget
	}
	return f.discard.WriteAt(p, off)
}

func TestWriteToFailingTarget(t *testing.T) {
	tr := largeFiles(t)
	for _, from := range []int64{0, 5000, 1 << 20, 200 << 20} {
		if _, err := Write(context.Background(), &failingTarget{from: from}, tr, Options{}); !errors.Is(err, errTarget) {
			t.Errorf("fails from %d on: %v", from, err)
		}
	}
}

// TestWriteToFullDisk writes to a file system without enough space.
func TestWriteToFullDisk(t *testing.T) {
	dir := mounttest.Tmpfs(t, "2m")
	f, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, o := range []Options{{}, {UUID: [16]byte{1}}} {
		if _, err := Write(context.Background(), f, largeFiles(t), o); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), f.Name()) {
			t.Errorf("error %v, want ENOSPC with the file's name", err)
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var written int64
	o := Options{Progress: func(n int64) {
		if written += n; written > 10<<20 {
			cancel()
		}
	}}
	if _, err := Write(ctx, &discard{}, largeFiles(t), o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if written > 50<<20 {
		t.Errorf("went on for %d bytes", written)
	}
}

func TestProgressAddsUp(t *testing.T) {
	tr := largeFiles(t)
	for _, o := range []Options{{}, {UUID: [16]byte{1}}} {
		var written int64
		o.Progress = func(n int64) { written += n }
		_, stats := writeImage(t, tr, o)
		if written < stats.Size*99/100 || written > stats.Size {
			t.Errorf("told of %d bytes of an image of %d", written, stats.Size)
		}
	}
}

// TestMemoryStaysSmall writes 4 GiB of content and bounds the memory allocated for it.
func TestMemoryStaysSmall(t *testing.T) {
	const size = 4 << 30
	b := corpusBuilder{t, tree.New()}
	for i := range int64(16) {
		b.file(fmt.Sprintf("f%d", i), tree.Section(&corpusReader{size}, i*size/16, size/16))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stats, err := Write(context.Background(), &discard{}, b.tree, Options{UUID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; stats.Size < size || taken > 32<<20 {
		t.Errorf("%d bytes of memory taken for an image of %d", taken, stats.Size)
	}
}
