package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// TestReadKernel reads structures that the kernel makes of a file system in use: deep trees of
// fragmented and unwritten extents, directories that grew and shrank, shared attribute blocks and
// attributes in separate inodes.
func TestReadKernel(t *testing.T) {
	needTools(t, "mke2fs", "debugfs")
	for _, c := range []struct {
		name string
		args []string
		set  []string // superblock values
	}{
		{"1k", []string{"-b", "1024", "-O", "ea_inode"}, nil},
		{"4k", []string{"-b", "4096", "-O", "ea_inode,large_dir"}, nil},
		{"block maps", []string{"-b", "1024", "-O", "^extent,^64bit,^metadata_csum"}, nil},
		{"unsigned hashes", []string{"-b", "1024"}, []string{"flags 2"}},
		{"tea hashes", []string{"-b", "1024"}, []string{"flags 1", "def_hash_version tea"}},
		{"legacy hashes", []string{"-b", "1024"}, []string{"flags 2", "def_hash_version legacy"}},
		{"no checksums", []string{"-b", "2048", "-O", "^metadata_csum,ea_inode"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			image := mke2fs(t, "96M", append(c.args, "-N", "12000", "-I", "256")...)
			for _, value := range c.set {
				command(t, "debugfs", "-w", "-R", "set_super_value "+value, image)
			}
			dir, unmount := mounttest.Loop(t, image, "user_xattr")
			churn(t, dir)
			want := mountedTree(t, dir)
			unmount()
			f := open(t, image)
			wantClean(t, f)
			compare(t, f, want)
		})
	}
}

// mountedTree returns the tree of a mounted directory. Its contents stay readable after the
// unmount.
func mountedTree(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	want := sourceTree(t, dir)
	want.Remove("lost+found")
	err := want.Walk(func(p string, n *tree.Inode) error {
		if !n.IsRegular() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(dir, p))
		n.Content = tree.Bytes(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// churn changes a mounted file system in ways that only use does.
func churn(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }

	// Write every second block, so that each is an extent.
	fragmented, err := os.Create(at("fragmented"))
	must(err)
	for i := range int64(3000) {
		_, err := fragmented.WriteAt(pattern(1000), i*8192)
		must(err)
	}
	must(fragmented.Close())

	allocated, err := os.Create(at("allocated"))
	must(err)
	err = unix.Fallocate(int(allocated.Fd()), 0, 0, 4<<20)
	if err == nil { // not supported with block maps
		_, err = allocated.WriteAt(pattern(70_000), 1<<20)
		must(err)
		must(unix.Fallocate(int(allocated.Fd()), unix.FALLOC_FL_KEEP_SIZE, 4<<20, 1<<20))
		must(unix.Fallocate(int(allocated.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20+8192, 8192))
	}
	must(allocated.Close())

	must(os.Mkdir(at("names"), 0o755))
	for i := range 4000 {
		name := fmt.Sprintf("names/%d-ÿ-a name long enough to fill blocks soon", i)
		must(os.WriteFile(at(name), nil, 0o600))
	}
	for i := range 500 {
		must(os.Remove(at(fmt.Sprintf("names/%d-ÿ-a name long enough to fill blocks soon", i*3))))
	}
	for i := range 40 {
		must(os.MkdirAll(at(fmt.Sprintf("dirs/%d/%d", i, i)), 0o755))
	}

	for i := range 5 { // equal attributes share a block
		name := at(fmt.Sprintf("shared%d", i))
		must(os.WriteFile(name, nil, 0o644))
		must(unix.Lsetxattr(name, "user.shared", pattern(600), 0))
		must(unix.Lsetxattr(name, "security.capability", capability, 0))
	}
	_ = unix.Lsetxattr(at("fragmented"), "user.large", pattern(20_000), 0) // where ea_inode allows it
	must(unix.Lsetxattr(at("shared0"), "system.posix_acl_access", sampleACL, 0))
	must(unix.Lsetxattr(at("dirs"), "system.posix_acl_default", sampleACL, 0))

	must(os.Symlink("fragmented", at("link")))
	must(unix.Mknod(at("device"), unix.S_IFBLK|0o600, int(unix.Mkdev(4095, 1<<20-1))))
	for _, when := range []time.Time{time.Unix(-1<<31, 1), time.Unix(-1, 999_999_999), time.Unix(1<<33, 5), time.Unix(maxTimestamp, 0)} {
		name := at(fmt.Sprintf("at %d", when.Unix()))
		must(os.WriteFile(name, nil, 0o644))
		ts := unix.NsecToTimespec(when.UnixNano())
		ts.Sec, ts.Nsec = when.Unix(), int64(when.Nanosecond())
		must(unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, 0))
	}
}
