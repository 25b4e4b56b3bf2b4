package ext4

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	diskfsfile "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestDiskfsReads compares images through go-diskfs, an independent reader. It cannot read files
// with holes and names of 255 bytes, so these are left out.
func TestDiskfsReads(t *testing.T) {
	for _, c := range []corpusTree{
		{"alpine aarch64", Options{}, func(t testing.TB) *tree.Tree { return alpine(t, "aarch64") }},
		{"alpine x86_64 with a journal", Options{Size: 64 << 20, Journal: 4 << 20, UUID: [16]byte{1}}, func(t testing.TB) *tree.Tree { return alpine(t, "x86_64") }},
		{"large files", Options{}, largeFiles},
		{"hashed directory", Options{}, func(t testing.TB) *tree.Tree {
			b := corpusBuilder{t, tree.New()}
			for i := range 1000 {
				b.file(fmt.Sprintf("d/entry number %d", i), tree.Bytes([]byte{byte(i)}))
			}
			return b.tree
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.build(t)
			image, stats := writeImage(t, want, c.options)
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fs, err := diskfs.Read(diskfsfile.New(f, true), stats.Size, 0, 512)
			if err != nil {
				t.Fatal(err)
			}
			compareByDiskfs(t, fs, want)
		})
	}
}

func compareByDiskfs(t *testing.T, fs *diskfs.FileSystem, want *tree.Tree) {
	err := want.Walk(func(p string, n *tree.Inode) error {
		switch {
		case n.IsDir():
			entries, err := fs.ReadDir(p)
			if err != nil {
				t.Errorf("%s: %v", p, err)
			}
			got := 0
			for _, e := range entries {
				if _, ok := n.Entry(e.Name()); ok {
					got++
				}
			}
			if got != n.Len() {
				t.Errorf("%s: %d of %d entries", p, got, n.Len())
			}
		case n.IsSymlink():
			if target, err := fs.ReadLink(p); err != nil || target != n.Target {
				t.Errorf("%s: links to %q, %v; want %q", p, target, err, n.Target)
			}
		case n.IsRegular():
			got, err := fs.ReadFile(p)
			if err != nil {
				t.Errorf("%s: %v", p, err)
			}
			if content, err := io.ReadAll(n.Content.Open()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: bytes differ, %v", p, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
