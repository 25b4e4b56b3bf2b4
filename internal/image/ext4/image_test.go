package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// needTools skips the test unless all programs are installed.
func needTools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
}

// needRoot skips the test unless it runs as root.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make devices, other owners and mounts")
	}
}

// command runs a program and returns its output.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// mke2fs makes an image and returns its path. size has mke2fs's syntax. The type is ext4 unless
// args set another.
func mke2fs(t testing.TB, size string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if !slices.Contains(args, "-t") {
		args = append([]string{"-t", "ext4"}, args...)
	}
	command(t, "mke2fs", append(append([]string{"-q", "-F"}, args...), image, size)...)
	return image
}

// open opens an image until the test ends.
func open(t testing.TB, image string) *FS {
	t.Helper()
	file, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sourceTree reads a directory as a tree for comparisons.
func sourceTree(t testing.TB, dir string) *tree.Tree {
	t.Helper()
	out := tree.New()
	seen := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if first, ok := seen[st.Ino]; ok && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return out.Link(first, rel)
		}
		seen[st.Ino] = rel
		n := &tree.Inode{
			Mode: st.Mode, UID: st.Uid, GID: st.Gid, ModTime: time.Unix(st.Mtim.Unix()),
			Xattrs: sourceXattrs(t, p),
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if n.Target, err = os.Readlink(p); err != nil {
				return err
			}
		case unix.S_IFCHR, unix.S_IFBLK:
			n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		case unix.S_IFREG:
			n.Content = tree.Section(namedFile(p), 0, st.Size)
		}
		if rel == "." {
			root := out.Root()
			root.Mode, root.UID, root.GID, root.ModTime, root.Xattrs = n.Mode, n.UID, n.GID, n.ModTime, n.Xattrs
			return nil
		}
		return out.Put(rel, n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namedFile is the path of a file that is open during reads only.
type namedFile string

func (name namedFile) ReadAt(p []byte, off int64) (int, error) {
	file, err := os.Open(string(name))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.ReadAt(p, off)
}

// sourceXattrs returns the extended attributes of a file or link.
func sourceXattrs(t testing.TB, p string) map[string][]byte {
	t.Helper()
	list := make([]byte, 1<<16)
	n, err := unix.Llistxattr(p, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		t.Fatalf("list attributes of %s: %v", p, err)
	}
	attrs := map[string][]byte{}
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(p, string(name), value)
		if err != nil {
			t.Fatalf("get attribute %s of %s: %v", name, p, err)
		}
		attrs[string(name)] = value[:n]
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}

// sampleTime is the time of all sample files: mke2fs copies whole seconds.
var sampleTime = time.Unix(1_700_000_001, 0)

// sampleDir makes a directory with every kind of entry that ext4 stores in a different way.
func sampleDir(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) { must(os.WriteFile(at(name), b, 0o644)) }

	write("empty", nil)
	write("byte", []byte("x"))
	write("large", pattern(3<<20+17))
	must(os.MkdirAll(at("usr/lib/deep/er/and/deeper"), 0o755))
	write("usr/lib/deep/er/and/deeper/file", []byte("deep"))
	write("setuid", []byte("#!"))
	must(os.Chmod(at("setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	must(os.Mkdir(at("sticky"), 0o777))
	must(os.Chmod(at("sticky"), 0o777|fs.ModeSticky))
	write("owned", []byte("by another"))
	must(os.Lchown(at("owned"), 70_000, 3_000_000_000))
	must(os.Link(at("byte"), at("usr/hardlink")))
	must(os.Symlink("large", at("link")))
	must(os.Symlink("/usr/lib", at("absolute")))
	must(os.Symlink("../../../../../byte", at("usr/clamped")))
	must(os.Symlink(strings.Repeat("s/", 29)+"t", at("link59")))
	must(os.Symlink(strings.Repeat("s", 60), at("link60")))
	must(os.Symlink(strings.Repeat("long/", 100)+"target", at("link506")))
	must(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70_000))))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(unix.Mknod(at("socket"), unix.S_IFSOCK|0o700, 0))
	write(strings.Repeat("n", 255), []byte("long name"))
	write("naïve \xff name", []byte("not UTF-8"))

	sparse, err := os.Create(at("sparse"))
	must(err)
	for _, off := range []int64{0, 100_000, 1 << 20, 5 << 20} {
		_, err := sparse.WriteAt(pattern(5000), off)
		must(err)
	}
	must(sparse.Truncate(9<<20 + 1))
	must(sparse.Close())

	must(os.Mkdir(at("many"), 0o755))
	for i := range 700 {
		write(fmt.Sprintf("many/entry with a longer name %04d", i), nil)
	}
	must(unix.Lsetxattr(at("byte"), "user.note", []byte("small"), 0))
	must(unix.Lsetxattr(at("large"), "user.block", pattern(700), 0))
	must(unix.Lsetxattr(at("large"), "security.capability", capability, 0))
	must(unix.Lsetxattr(at("usr"), "trusted.overlay.opaque", []byte("y"), 0))
	must(unix.Lsetxattr(at("link"), "trusted.on-link", []byte("yes"), 0))
	must(unix.Lsetxattr(at("owned"), "user.empty", nil, 0))
	must(unix.Lsetxattr(at("owned"), "system.posix_acl_access", sampleACL, 0))

	must(filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		times := []unix.Timespec{unix.NsecToTimespec(sampleTime.UnixNano()), unix.NsecToTimespec(sampleTime.UnixNano())}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW)
	}))
	return dir
}

// capability is a security.capability that grants cap_net_bind_service.
var capability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// sampleACL grants user 70 rw: user::rw-, user:70:rw-, group::r--, mask::rw-, other::r--.
var sampleACL = []byte{
	2, 0, 0, 0,
	0x01, 0, 6, 0, 0xFF, 0xFF, 0xFF, 0xFF,
	0x02, 0, 6, 0, 70, 0, 0, 0,
	0x04, 0, 4, 0, 0xFF, 0xFF, 0xFF, 0xFF,
	0x10, 0, 6, 0, 0xFF, 0xFF, 0xFF, 0xFF,
	0x20, 0, 4, 0, 0xFF, 0xFF, 0xFF, 0xFF,
}

// pattern returns n varying bytes without a block of zeros, which mke2fs would turn into a hole.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>12) ^ byte(i>>8) ^ byte(i) | 1
	}
	return b
}

// compare reports the differences between the tree of an image and the expected one. Of the root
// mke2fs copies only the entries, and it adds lost+found.
func compare(t testing.TB, f *FS, want *tree.Tree) {
	t.Helper()
	got, err := f.Tree()
	if err != nil {
		t.Fatal(err)
	}
	got.Remove("lost+found")
	root, wantRoot := got.Root(), want.Root()
	root.Mode, root.UID, root.GID = wantRoot.Mode, wantRoot.UID, wantRoot.GID
	root.ModTime, root.Xattrs = wantRoot.ModTime, wantRoot.Xattrs
	changes, err := tree.Diff(want, got)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		if i == 20 {
			t.Errorf("and %d more", len(changes)-i)
			break
		}
		t.Errorf("image differs from its source: %+v", c)
	}
}

// wantClean fails the test with every problem that Check finds.
func wantClean(t testing.TB, f *FS) {
	t.Helper()
	problems, err := f.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("check: %v", p)
	}
}
