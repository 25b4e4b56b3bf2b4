package ext4

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// victimDir returns a directory with the content of the images that tests damage.
func victimDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "dir/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"file": pattern(5000), "dir/other": pattern(3000), "dir/sub/leaf": []byte("leaf")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("dir/other", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "many"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		name := filepath.Join(dir, "many", strings.Repeat("x", 40)+string(rune('A'+i)))
		if err := os.Symlink("y", name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCheckDamage damages images with debugfs in ways that e2fsck finds. Check must find and name
// each damage too.
func TestCheckDamage(t *testing.T) {
	needTools(t, "mke2fs", "debugfs", "e2fsck")
	dir := victimDir(t)
	for _, c := range []struct {
		damage string // debugfs commands
		want   string // part of a problem
	}{
		{"set_inode_field /file links_count 3", "link count is 3, found 1"},
		{"set_inode_field /dir links_count 2", "link count is 2, found 3"},
		{"set_inode_field /file blocks 2", "size on disk is given as 2 sectors"},
		{"set_inode_field /file size 100", "yet it has data in block 4"},
		{"set_inode_field /file mode 0", "of no known file type"},
		{"set_inode_field /file mode 040755", "is of type 1, its inode"},
		{"set_inode_field /file checksum 0x1234", "checksum is"},
		{"set_inode_field /file flags 0x10080000", "inline_data"},
		{"set_inode_field /file file_acl 3", "extended attributes"},
		{"set_inode_field /dir size 1000", "directory of 1000 bytes"},
		{"set_inode_field /dir size 4096", "is a hole"},
		{"set_inode_field /file block[0] 0", "extent node has magic 0x0000"},
		{"set_inode_field /file block[5] 1", "lie outside"},
		{"set_inode_field /file block[5] 0xFFFFFF", "lie outside"},
		{"clri /file", "which is not in use"},
		{"clri /dir", "which is not in use"},
		{"unlink /file", "no directory names it"},
		{"unlink /dir", "no directory names it"},
		{"ln /file /file2", "link count is 1, found 2"},
		{"ln /dir /dir/sub/loop", "second name"},
		{"ln / /dir/root", "root"},
		{"freei /file", "in use are marked free"},
		{"seti <100>\nset_bg 0 inode_bitmap_csum calc", "marked used are not"},
		{"freeb 60 1\nset_bg 0 block_bitmap_csum calc", "in use are marked free"},
		{"setb 900 5\nset_bg 0 block_bitmap_csum calc", "5 marked used are not, from 900"},
		{"set_bg 0 free_blocks_count 7\nset_bg 0 checksum calc", "free blocks are counted as 7"},
		{"set_bg 0 free_inodes_count 7\nset_bg 0 checksum calc", "free inodes are counted as 7"},
		{"set_bg 0 used_dirs_count 7\nset_bg 0 checksum calc", "directories are counted as 7"},
		{"set_bg 0 inode_bitmap_csum 1\nset_bg 0 checksum calc", "inode bitmap of group 0: checksum"},
		{"set_bg 0 flags 2\nset_bg 0 checksum calc", "never written, yet the group is in use"},
		{"set_super_value free_blocks_count 7", "superblock: free blocks are counted as 7"},
		{"set_super_value free_inodes_count 7", "superblock: free inodes are counted as 7"},
		{"set_super_value state 2", "found errors"},
		{"set_super_value state 0", "not unmounted cleanly"},
	} {
		t.Run(c.damage, func(t *testing.T) {
			t.Parallel()
			image := mke2fs(t, "1M", "-b", "1024", "-N", "128", "-O", "^has_journal,^resize_inode", "-d", dir)
			wantClean(t, open(t, image))
			commands := filepath.Join(t.TempDir(), "commands")
			if err := os.WriteFile(commands, []byte(c.damage+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			command(t, "debugfs", "-w", "-f", commands, image)
			fsck, err := exec.Command("e2fsck", "-fn", image).CombinedOutput()
			if err == nil && !strings.Contains(c.damage, "set_super_value") { // e2fsck exits with 0 after these
				t.Fatalf("e2fsck finds no damage:\n%s", fsck)
			}
			problems, err := open(t, image).Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(problems, func(p finding.Finding) bool { return strings.Contains(p.String(), c.want) }) {
				t.Errorf("problems %v have no %q; e2fsck:\n%s", problems, c.want, fsck)
			}
		})
	}
}

// TestDirectoryCycle requires that no walk follows a directory into itself.
func TestDirectoryCycle(t *testing.T) {
	needTools(t, "mke2fs", "debugfs")
	image := mke2fs(t, "1M", "-b", "1024", "-N", "128", "-O", "^has_journal,^resize_inode", "-d", victimDir(t))
	command(t, "debugfs", "-w", "-R", "ln /dir /dir/sub/loop", image)
	f := open(t, image)
	if _, err := f.ReadDir("dir/sub"); err != nil {
		t.Errorf("directory around the cycle: %v", err)
	}
	if _, err := f.ReadDir("dir/sub/loop"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("directory that is its own grandchild: %v, want ErrCorrupt", err)
	}
	if _, err := f.Tree(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Tree: %v, want ErrCorrupt", err)
	}
}

// TestSharedInodeTable checks an image whose groups share one inode table. Each inode must be
// visited once: otherwise a small image with many groups would have very many inodes.
func TestSharedInodeTable(t *testing.T) {
	needTools(t, "mke2fs")
	image, err := os.ReadFile(mke2fs(t, "1M", "-b", "1024", "-g", "256", "-N", "256",
		"-O", "^metadata_csum,^uninit_bg,^64bit,^flex_bg,^has_journal,^resize_inode", "-d", victimDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	const tableField = 8 // bg_inode_table_lo
	at := f.blockOffset(f.descBlock(0))
	for group := 1; group < len(f.groups); group++ {
		copy(image[at+int64(group*f.descSize+tableField):][:4], image[at+tableField:])
	}
	if f, err = Open(bytes.NewReader(image), int64(len(image))); err != nil {
		t.Fatal(err)
	}
	problems, err := f.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, p := range problems {
		if strings.HasPrefix(p.Found, "inode table: ") {
			tables++
		}
		if strings.HasPrefix(p.Found, "data: ") {
			t.Errorf("an inode was met twice: %v", p)
		}
	}
	if tables != len(f.groups)-1 {
		t.Errorf("%d shared tables were found, want %d", tables, len(f.groups)-1)
	}
}

// TestFlippedBytes flips bytes all over a checksummed image. Each flip must be found, or change
// nothing that a reader returns. The contents of files have no checksums and are left out.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	needTools(t, "mke2fs")
	image, err := os.ReadFile(mke2fs(t, "128k", "-b", "1024", "-N", "96", "-O", "metadata_csum,^has_journal,^resize_inode", "-d", victimDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := readTree(image)
	if err != nil {
		t.Fatal(err)
	}
	data := contentBytes(t, want)
	const stride = 13 // a prime, so that flips reach all columns of all structures
	flips, found := 0, 0
	for i := 0; i < len(image); i += stride {
		if data[i] {
			continue
		}
		flips++
		image[i] ^= 0x10
		if damageFound(t, image) {
			found++
		} else if got, err := readTree(image); err != nil {
			t.Errorf("byte %d (block %d, offset %#x): Check finds nothing, Tree says %v", i, i/1024, i%1024, err)
		} else if changes, err := tree.Diff(want, got); err != nil || len(changes) > 0 {
			t.Errorf("byte %d (block %d, offset %#x): Check finds nothing, yet %v changed, %v", i, i/1024, i%1024, changes, err)
		}
		image[i] ^= 0x10
	}
	t.Logf("%d of %d flips found, the others are harmless", found, flips)
	if found < 500 {
		t.Errorf("only %d of %d flips were found", found, flips)
	}
}

// readTree opens an image in memory and reads its tree.
func readTree(image []byte) (*tree.Tree, error) {
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, err
	}
	return f.Tree()
}

// damageFound reports whether Open or Check objects to an image.
func damageFound(t *testing.T, image []byte) bool {
	t.Helper()
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return true
	}
	problems, err := f.Check(t.Context())
	if err != nil {
		t.Errorf("Check of a damaged image fails: %v", err)
	}
	return len(problems) > 0
}

// contentBytes returns the offsets of an image's bytes that belong to contents of files.
func contentBytes(t *testing.T, of *tree.Tree) map[int]bool {
	t.Helper()
	data := map[int]bool{}
	if err := of.Walk(func(_ string, n *tree.Inode) error {
		for _, e := range n.Content.Extents {
			for i := range e.Length {
				data[int(e.SourceOffset+i)] = true
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCheckCancelled(t *testing.T) {
	needTools(t, "mke2fs")
	f := open(t, mke2fs(t, "8M"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with a cancelled context: %v", err)
	}
}
