package inspect

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

func TestDanglingLinks(t *testing.T) {
	tr := tree.New()
	for _, dir := range []string{"etc", "usr", "usr/bin", "usr/share", "run"} {
		put(t, tr, dir, &tree.Inode{Mode: tree.S_IFDIR | 0o755})
	}
	put(t, tr, "usr/bin/tool", &tree.Inode{Mode: tree.S_IFREG | 0o755})
	for name, target := range map[string]string{
		"bin": "usr/bin", "etc/tool": "../bin/tool", "etc/mtab": "../proc/mounts", "lock": "/run/lock", "etc/chained": "mtab", "etc/below": "../lock/file",
		"usr/share/zoneinfo": "/usr/share/tz", "usr/share/utc": "zoneinfo/UTC", "etc/loop": "loop", "etc/run": "/run",
	} {
		put(t, tr, name, &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: target})
	}
	path := filepath.Join(t.TempDir(), "rootfs.img")
	image, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if _, err := ext4.Write(t.Context(), image, tr, ext4.Options{}); err != nil {
		t.Fatal(err)
	}
	img, err := built.OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	got, err := DanglingLinks(img.FS)
	want := []Link{{"/etc/loop", "loop"}, {"/usr/share/utc", "zoneinfo/UTC"}, {"/usr/share/zoneinfo", "/usr/share/tz"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}
