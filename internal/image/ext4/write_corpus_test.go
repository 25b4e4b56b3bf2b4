package ext4

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A corpusTree is a tree that tests write.
type corpusTree struct {
	name    string
	options Options
	build   func(t testing.TB) *tree.Tree
}

// corpus lists trees of every kind. Several readers check the image of each.
func corpus() []corpusTree {
	at := time.Unix(1700000000, 0)
	return []corpusTree{
		{"empty", Options{}, func(testing.TB) *tree.Tree { return tree.New() }},
		{"empty with room", Options{Size: 64 << 20, ModTime: at}, func(testing.TB) *tree.Tree { return tree.New() }},
		{"every kind", Options{Label: "every kind", ModTime: at}, everyKind},
		{"every kind in blocks of 1024", Options{BlockSize: 1024}, everyKind},
		{"every kind in blocks of 2048", Options{BlockSize: 2048, UUID: [16]byte{1, 2, 3}}, everyKind},
		{"every kind in blocks of 8192", Options{BlockSize: 8192}, everyKind},
		{"every kind in blocks of 65536", Options{BlockSize: 65536, Size: 200 << 20}, everyKind},
		{"every kind with a journal", Options{Size: 100<<20 + 700, Journal: 8 << 20, Label: "sixteen bytes ok"}, everyKind},
		{"every kind in blocks of 1024 with a journal", Options{Size: 200 << 20, Journal: 4 << 20, BlockSize: 1024}, everyKind},
		{"directories", Options{}, directories},
		{"directories in blocks of 65536", Options{BlockSize: 65536}, directories},
		{"directories in blocks of 1024", Options{BlockSize: 1024}, directories},
		{"many directories in one", Options{}, manyDirectories},
		{"large files", Options{}, largeFiles},
		{"large files in blocks of 1024", Options{BlockSize: 1024}, largeFiles},
		{"sparse file above 4 GiB", Options{}, largeSparse},
		{"100,000 files", Options{}, manyFiles},
		{"alpine aarch64", Options{}, func(t testing.TB) *tree.Tree { return alpine(t, "aarch64") }},
		{"alpine x86_64", Options{Size: 64 << 20}, func(t testing.TB) *tree.Tree { return alpine(t, "x86_64") }},
	}
}

// A corpusBuilder puts entries into a tree or ends the test.
type corpusBuilder struct {
	t    testing.TB
	tree *tree.Tree
}

func (b corpusBuilder) put(p string, n *tree.Inode) {
	b.t.Helper()
	if n.ModTime.IsZero() {
		n.ModTime = time.Unix(1600000000, 123456789)
	}
	if err := b.tree.Put(p, n); err != nil {
		b.t.Fatal(err)
	}
}

func (b corpusBuilder) file(p string, content tree.Content) {
	b.t.Helper()
	b.put(p, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: content})
}

func (b corpusBuilder) link(oldp, newp string) {
	b.t.Helper()
	if err := b.tree.Link(oldp, newp); err != nil {
		b.t.Fatal(err)
	}
}

// randomBytes returns n bytes that look random and depend on seed only.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

// everyKind returns a tree with entries of every type and attribute.
func everyKind(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	b.put(".", &tree.Inode{Mode: tree.S_IFDIR | 0o751, UID: 3, GID: 4})
	for _, n := range []int{0, 1, 511, 512, 1023, 1024, 1025, 4095, 4096, 4097, 1 << 20, 1<<20 + 1} {
		b.file(fmt.Sprintf("files/%d", n), tree.Bytes(randomBytes(uint64(n), n)))
	}
	for _, n := range []int{1, 58, 59, 60, 61, 255, 1000, 1023} {
		b.put(fmt.Sprintf("links/%d", n), &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: strings.Repeat("x", n)})
	}
	for i, mode := range []uint32{0o4755, 0o2755, 0o1777, 0, 0o7777, 0o644} {
		b.put(fmt.Sprintf("modes/%d", i), &tree.Inode{Mode: tree.S_IFREG | mode, UID: 70000 + uint32(i), GID: 1<<32 - 2 - uint32(i)})
	}
	b.put("modes/sticky", &tree.Inode{Mode: tree.S_IFDIR | 0o1777})
	addSpecials(b)
	addTimes(b)
	addXattrs(b)
	addNames(b)
	addSparse(b)
	return b.tree
}

func addSpecials(b corpusBuilder) {
	for i, d := range [][2]uint32{{1, 3}, {0, 0}, {255, 255}, {256, 0}, {8, 256}, {4095, 1048575}, {259, 65536}} {
		b.put(fmt.Sprintf("dev/char%d", i), &tree.Inode{Mode: tree.S_IFCHR | 0o666, Major: d[0], Minor: d[1]})
		b.put(fmt.Sprintf("dev/block%d", i), &tree.Inode{Mode: tree.S_IFBLK | 0o660, Major: d[0], Minor: d[1], GID: 6})
	}
	b.put("dev/fifo", &tree.Inode{Mode: tree.S_IFIFO | 0o600})
	b.put("dev/socket", &tree.Inode{Mode: tree.S_IFSOCK | 0o755})
	b.link("dev/char0", "dev/char0 again")
	b.link("dev/fifo", "hard/fifo")
	b.link("links/60", "hard/link")
	b.link("files/4097", "hard/a")
	b.link("files/4097", "hard/b")
	b.link("files/0", "hard/empty")
}

func addTimes(b corpusBuilder) {
	for i, at := range []time.Time{
		time.Unix(0, 1), time.Unix(-1, 999999999), time.Unix(-1<<31, 0), time.Unix(1<<31-1, 999999999),
		time.Unix(1<<31, 5), time.Unix(1<<32, 0), time.Unix(1<<33+7, 1), time.Unix(3<<32+1<<31-1, 0),
	} {
		b.put(fmt.Sprintf("times/%d", i), &tree.Inode{Mode: tree.S_IFREG | 0o600, ModTime: at})
		b.put(fmt.Sprintf("times/dir%d", i), &tree.Inode{Mode: tree.S_IFDIR | 0o700, ModTime: at})
	}
}

// corpusACL is an ACL as system calls encode it: u::rw-, u:1000:r--, g::r--, m::r-, o::---.
const corpusACL = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"

func addXattrs(b corpusBuilder) {
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // cap_net_bind_service=ep
	attrs := map[string]map[string][]byte{
		"capability": {"security.capability": capability},
		"overlay":    {"trusted.overlay.origin": []byte("x"), "trusted.overlay.metacopy": {}},
		"acl":        {"system.posix_acl_access": []byte(corpusACL)},
		"large":      {"user.large": bytes.Repeat([]byte("v"), 900)},
		"mixed": {
			"user.a": []byte("1"), "user.empty": {}, "user.bb": bytes.Repeat([]byte("2"), 60), "security.selinux": []byte("u:object_r:x:s0\x00"),
			"trusted.t": bytes.Repeat([]byte("3"), 200), "user." + strings.Repeat("n", 250): []byte("long name"),
			"user.\xc3\xa9": []byte("not ASCII"), "system.posix_acl_access": []byte(corpusACL), "security.capability": capability,
		},
	}
	for name, set := range attrs {
		b.put("xattrs/"+name, &tree.Inode{Mode: tree.S_IFREG | 0o640, Xattrs: set, Content: tree.Bytes([]byte("content of " + name))})
	}
	b.put("xattrs/dir", &tree.Inode{Mode: tree.S_IFDIR | 0o750, Xattrs: map[string][]byte{
		"system.posix_acl_default": []byte(corpusACL), "trusted.overlay.opaque": []byte("y"),
	}})
	b.put("xattrs/link", &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: strings.Repeat("t", 30), Xattrs: map[string][]byte{
		"trusted.big": bytes.Repeat([]byte("w"), 500),
	}})
	b.put("xattrs/device", &tree.Inode{Mode: tree.S_IFCHR | 0o600, Major: 1, Minor: 7, Xattrs: map[string][]byte{
		"security.label": bytes.Repeat([]byte("w"), 300),
	}})
}

func addNames(b corpusBuilder) {
	for _, name := range []string{
		strings.Repeat("n", 255), strings.Repeat("é", 127), " ", "-", "new\nline", "\xff\xfe", "back\\slash", "...", "a.b", "日本語",
	} {
		b.file("names/"+name, tree.Bytes([]byte(name)))
	}
	deep := "deep"
	for range 60 {
		deep += "/d"
	}
	b.file(deep+"/end", tree.Bytes([]byte("end")))
}

func addSparse(b corpusBuilder) {
	data := bytes.NewReader(randomBytes(99, 64<<10))
	piece := func(off, n, from int64) tree.Extent {
		return tree.Extent{Offset: off, Length: n, Source: data, SourceOffset: from}
	}
	b.file("sparse/all hole", tree.Content{Size: 1 << 20})
	b.file("sparse/hole at end", tree.Content{Size: 1 << 20, Extents: []tree.Extent{piece(0, 100, 7)}})
	b.file("sparse/hole at start", tree.Content{Size: 1<<20 + 5, Extents: []tree.Extent{piece(1<<20, 5, 9)}})
	b.file("sparse/shared blocks", tree.Content{Size: 9000, Extents: []tree.Extent{piece(10, 10, 0), piece(30, 5000, 100), piece(8999, 1, 3)}})
	var many []tree.Extent // more than a leaf of the extent tree holds
	for i := range int64(1500) {
		many = append(many, piece(i*3*4096, 4000, i))
	}
	b.file("sparse/many", tree.Content{Size: 1500 * 3 * 4096, Extents: many})
}

// largeSparse returns a tree of a file with a size of more than 32 bits and little data.
func largeSparse(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	data := bytes.NewReader(randomBytes(98, 8192))
	b.file("above 4 GiB", tree.Content{Size: 5<<30 + 1, Extents: []tree.Extent{
		{Offset: 0, Length: 4096, Source: data},
		{Offset: 4<<30 + 17, Length: 5000, Source: data, SourceOffset: 5},
		{Offset: 5 << 30, Length: 1, Source: data, SourceOffset: 1},
	}})
	return b.tree
}

// directories returns a tree of directories from small to very large.
func directories(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	for _, n := range []int{1, 50, 100, 200, 340, 1000, 10000} {
		for i := range n {
			b.file(fmt.Sprintf("%d/entry number %d", n, i), tree.Bytes([]byte(fmt.Sprint(i))))
		}
	}
	for i := range 3000 {
		b.file(fmt.Sprintf("long/%d%s", i, strings.Repeat("x", 255-len(fmt.Sprint(i)))), tree.Content{})
	}
	return b.tree
}

// manyDirectories returns a tree with more directories in one than its link count can hold.
func manyDirectories(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	for i := range 66000 {
		b.put(fmt.Sprintf("subdirectories/%d", i), &tree.Inode{Mode: tree.S_IFDIR | 0o755})
	}
	return b.tree
}

// largeFiles returns a tree of files that extend over several block groups.
func largeFiles(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	const size = 300<<20 + 12345
	source := &corpusReader{size: size}
	b.file("large", tree.Section(source, 0, size))
	b.file("second", tree.Section(source, 12345, 20<<20))
	b.file("small", tree.Bytes([]byte("small")))
	return b.tree
}

// A corpusReader is a file that repeats a pattern of prime length and is not held in memory.
type corpusReader struct{ size int64 }

var corpusBytes = randomBytes(5, 65521)

func (r *corpusReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && off+int64(n) < r.size {
		from := corpusBytes[(off+int64(n))%int64(len(corpusBytes)):]
		n += copy(p[n:min(int64(len(p)), r.size-off)], from)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// manyFiles returns a tree with 100,000 files in one directory and as many in a thousand.
func manyFiles(t testing.TB) *tree.Tree {
	b := corpusBuilder{t, tree.New()}
	for i := range 100000 {
		b.file(fmt.Sprintf("one/%x", sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})), tree.Content{})
	}
	for i := range 20000 {
		b.file(fmt.Sprintf("spread/%d/%d", i%200, i), tree.Bytes([]byte{byte(i)}))
	}
	return b.tree
}

// alpine returns the tree of Alpine's released minirootfs.
func alpine(t testing.TB, arch string) *tree.Tree {
	dir := os.Getenv("SOV_ALPINE_FIXTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "alpine")
	}
	f, err := os.Open(filepath.Join(dir, "alpine-minirootfs-3.20.3-"+arch+".tar.gz"))
	if err != nil {
		t.Skipf("Alpine's minirootfs is not in SOV_ALPINE_FIXTURES: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	if err := tr.ApplyTar(bytes.NewReader(archive), int64(len(archive)), tree.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	return tr
}
