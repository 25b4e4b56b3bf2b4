package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/image/verity"
)

func TestFreeRoom(t *testing.T) {
	root := tree.New()
	content := tree.Bytes(bytes.Repeat([]byte("x"), 3<<20))
	if err := root.Put("usr/file", &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: content}); err != nil {
		t.Fatal(err)
	}
	if err := root.Link("usr/file", "usr/link"); err != nil {
		t.Fatal(err)
	}
	if entries, size, err := measure(root); err != nil || entries != 4 || size != 3<<20 {
		t.Errorf("measured %d names, %d bytes, %v", entries, size, err)
	}
	for _, free := range []recipe.Size{0, 64*recipe.KiB + 1, 100 * recipe.MiB, 3 * recipe.GiB} {
		t.Run(free.String(), func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), artifact.RootfsFile))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s := &stage{Options{Label: "test", Free: free}}
			stats, err := s.write(context.Background(), f, root, func(int64) {})
			if err != nil {
				t.Fatal(err)
			}
			if stats.FreeBytes < int64(free) || stats.FreeBytes > int64(free)+int64(free)/4+8<<20 {
				t.Errorf("%d bytes are free", stats.FreeBytes)
			}
			if info, err := f.Stat(); err != nil || info.Size() != stats.Size || stats.Size%verity.BlockSize != 0 {
				t.Errorf("the file has %v, the image %d bytes; %v", info.Size(), stats.Size, err)
			}
			tool, err := exec.LookPath("e2fsck")
			if err != nil {
				t.Skip("e2fsck is not installed")
			}
			if out, err := exec.Command(tool, "-fn", f.Name()).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}

// TestVersion pins the written image. If it changes on purpose, raise version and update the
// digest: caches then do not return images of an older writer.
func TestVersion(t *testing.T) {
	const wantVersion, wantDigest = 2, "8badb216b74e6bdd6f3b67c076f334165eb73c4486803cca7764dd59ebdf3d79"
	at := time.Unix(1700000000, 0)
	root := tree.New()
	for name, n := range map[string]*tree.Inode{
		"bin":       {Mode: tree.S_IFLNK | 0o777, Target: "usr/bin"},
		"dev/null":  {Mode: tree.S_IFCHR | 0o666, Major: 1, Minor: 3},
		"usr/bin/a": {Mode: tree.S_IFREG | 0o755, UID: 70000, Content: tree.Bytes(bytes.Repeat([]byte("a"), 9000))},
		"usr/bin/b": {Mode: tree.S_IFREG | 0o755, Xattrs: map[string][]byte{"security.capability": make([]byte, 20)}},
	} {
		n.ModTime = at
		if err := root.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.Link("usr/bin/a", "usr/bin/c"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), artifact.RootfsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &stage{Options{Label: "test"}}
	stats, err := s.write(context.Background(), f, root, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verity.Write(t.Context(), f, stats.Size); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); version != wantVersion || got != wantDigest {
		t.Errorf("version %d writes %s, want version %d to write %s", version, got, wantVersion, wantDigest)
	}
}
