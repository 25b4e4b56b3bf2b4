package ext4

import (
	"slices"
	"testing"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// mke2fsCases are images that differ in every property that affects reading.
var mke2fsCases = []struct {
	name string
	size string
	args []string
}{
	{"1k", "40M", []string{"-b", "1024"}},
	{"2k", "40M", []string{"-b", "2048"}},
	{"4k", "40M", []string{"-b", "4096"}},
	{"64k", "128M", []string{"-b", "65536"}},
	{"ext2", "40M", []string{"-t", "ext2", "-b", "1024"}},
	{"ext3", "40M", []string{"-t", "ext3", "-b", "4096"}},
	{"revision 0", "40M", []string{"-t", "ext2", "-r", "0", "-b", "1024", "-O", "none"}},
	{"no checksums", "40M", []string{"-O", "^metadata_csum"}},
	{"group checksums", "40M", []string{"-O", "^metadata_csum,uninit_bg"}},
	{"block maps", "40M", []string{"-b", "1024", "-O", "^extent,^64bit"}},
	{"32 bit", "40M", []string{"-O", "^64bit"}},
	{"meta_bg", "40M", []string{"-b", "1024", "-O", "meta_bg,^resize_inode"}},
	{"meta_bg in small groups", "40M", []string{"-b", "1024", "-g", "256", "-O", "meta_bg,^resize_inode", "-N", "4096"}},
	{"no flex_bg", "40M", []string{"-b", "1024", "-O", "^flex_bg"}},
	{"every superblock", "40M", []string{"-b", "1024", "-O", "^sparse_super,^resize_inode"}},
	{"sparse_super2", "40M", []string{"-b", "1024", "-O", "sparse_super2,^resize_inode"}},
	{"quota", "40M", []string{"-O", "quota"}},
	{"no journal", "40M", []string{"-O", "^has_journal"}},
	{"no filetype", "40M", []string{"-O", "^filetype"}},
	{"no index", "40M", []string{"-O", "^dir_index"}},
	{"checksum seed", "40M", []string{"-O", "metadata_csum_seed", "-U", "01234567-89ab-cdef-0123-456789abcdef"}},
	{"orphan_file", "40M", []string{"-O", "orphan_file"}},
	{"mmp", "40M", []string{"-O", "mmp"}},
	{"large_dir", "40M", []string{"-O", "large_dir"}},
	{"inodes of 128 bytes", "40M", []string{"-I", "128"}},
	{"inodes of 1024 bytes", "40M", []string{"-I", "1024"}},
}

func TestReadMke2fs(t *testing.T) {
	needTools(t, "mke2fs")
	dir := sampleDir(t)
	want := sourceTree(t, dir)
	for _, c := range mke2fsCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := want
			f := open(t, mke2fs(t, c.size, append(c.args, "-d", dir)...))
			if !slices.Contains(f.Super().Features, "ext_attr") {
				want = withoutXattrs(t, dir)
			}
			compare(t, f, want)
			wantClean(t, f)
		})
	}
}

// withoutXattrs is sourceTree for images that cannot hold attributes.
func withoutXattrs(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	want := sourceTree(t, dir)
	if err := want.Walk(func(_ string, n *tree.Inode) error {
		n.Xattrs = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return want
}
