package ext4

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

// imageOf makes an image of a directory with blocks of 1 KiB.
func imageOf(t testing.TB, dir string) *FS {
	t.Helper()
	needTools(t, "mke2fs")
	return open(t, mke2fs(t, "40M", "-b", "1024", "-d", dir))
}

func TestFS(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a/b/c": "see", "a/empty": "", "top": strings.Repeat("text ", 5000)} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "top", "a/up": "../top", "a/dir": "/a/b"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	f := imageOf(t, dir)
	if err := fstest.TestFS(f, "a/b/c", "a/empty", "top", "link", "a/up", "a/dir", "lost+found"); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	f := imageOf(t, sampleDir(t))
	for _, c := range []struct {
		path, content string
		want          error
	}{
		{"usr/lib/deep/er/and/deeper/file", "deep", nil},
		{"absolute/deep/er/and/deeper/file", "deep", nil},
		{"usr/clamped", "x", nil},
		{"null", "", nil},
		{"naïve \xff name", "not UTF-8", nil},
		{"byte/below", "", syscall.ENOTDIR},
		{"nowhere", "", fs.ErrNotExist},
		{"usr/nowhere/file", "", fs.ErrNotExist},
		{"link60", "", fs.ErrNotExist},
		{"usr", "", syscall.EISDIR},
		{"/byte", "", fs.ErrInvalid},
		{"usr/../byte", "", fs.ErrInvalid},
		{"", "", fs.ErrInvalid},
	} {
		b, err := f.ReadFile(c.path)
		if !errors.Is(err, c.want) || string(b) != c.content {
			t.Errorf("ReadFile(%q) = %q, %v, want %q, %v", c.path, b, err, c.content, c.want)
		}
	}
}

func TestSymlinkLoop(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{"self": "self", "a": "b", "b": "a", "in": "in/in"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	f := imageOf(t, dir)
	for _, name := range []string{"self", "a", "in", "in/file"} {
		if _, err := f.Open(name); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("Open(%q): %v, want ELOOP", name, err)
		}
	}
	if target, err := f.ReadLink("self"); target != "self" || err != nil {
		t.Errorf("ReadLink(self) = %q, %v", target, err)
	}
	if _, err := f.ReadLink("lost+found"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink of a directory: %v, want ErrInvalid", err)
	}
}

func TestStat(t *testing.T) {
	f := imageOf(t, sampleDir(t))
	for _, c := range []struct {
		name string
		mode fs.FileMode
		size int64
		want Stat
	}{
		{"null", fs.ModeDevice | fs.ModeCharDevice | 0o644, 0, Stat{Mode: unix.S_IFCHR | 0o644, Nlink: 1, Major: 1, Minor: 3}},
		{"disk", fs.ModeDevice | 0o640, 0, Stat{Mode: unix.S_IFBLK | 0o640, Nlink: 1, Major: 259, Minor: 70_000}},
		{"setuid", fs.ModeSetuid | fs.ModeSetgid | 0o755, 2, Stat{Mode: unix.S_IFREG | 0o6755, Nlink: 1, Blocks: 2}},
		{"sticky", fs.ModeDir | fs.ModeSticky | 0o777, 1024, Stat{Mode: unix.S_IFDIR | 0o1777, Nlink: 2, Blocks: 2}},
		{"usr/hardlink", 0o644, 1, Stat{Mode: unix.S_IFREG | 0o644, Nlink: 2, Blocks: 2}},
		{"link", fs.ModeSymlink | 0o777, 5, Stat{Mode: unix.S_IFLNK | 0o777, Nlink: 1}},
	} {
		info, err := f.Lstat(c.name)
		if err != nil {
			t.Error(err)
			continue
		}
		got := *info.Sys().(*Stat)
		if got.Inode < firstInode || got.Crtime.IsZero() || !got.Mtime.Equal(sampleTime) {
			t.Errorf("%s: inode %d, created %v, modified %v", c.name, got.Inode, got.Crtime, got.Mtime)
		}
		got.Inode, got.Atime, got.Mtime, got.Ctime, got.Crtime = 0, time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if info.Mode() != c.mode || info.Size() != c.size || got != c.want {
			t.Errorf("%s: %v, %d bytes, %+v, want %v, %d, %+v", c.name, info.Mode(), info.Size(), got, c.mode, c.size, c.want)
		}
	}
}

func TestReadAtAndSeek(t *testing.T) {
	dir := sampleDir(t)
	f := imageOf(t, dir)
	want, err := os.ReadFile(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := f.Open("sparse")
	if err != nil {
		t.Fatal(err)
	}
	at, seeker := file.(io.ReaderAt), file.(io.Seeker)
	size := int64(len(want))
	for _, off := range []int64{0, 1, 4999, 5000, 99_999, 1<<20 - 1, 5<<20 + 4999, size - 1} {
		got := make([]byte, min(7000, size-off))
		if _, err := at.ReadAt(got, off); err != nil || !bytes.Equal(got, want[off:][:len(got)]) {
			t.Errorf("ReadAt(%d): wrong bytes or %v", off, err)
		}
	}
	if n, err := at.ReadAt(make([]byte, 10), size-3); n != 3 || err != io.EOF {
		t.Errorf("ReadAt over the end = %d, %v", n, err)
	}
	if _, err := at.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("ReadAt(-1): no error")
	}
	if _, err := seeker.Seek(-5000, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, want[size-5000:]) {
		t.Errorf("read after seek: wrong bytes or %v", err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestXattrs(t *testing.T) {
	f := imageOf(t, sampleDir(t))
	for _, c := range []struct {
		path string
		want map[string][]byte
	}{
		{"large", map[string][]byte{"user.block": pattern(700), "security.capability": capability}},
		{"link", map[string][]byte{"trusted.on-link": []byte("yes")}},
		{"owned", map[string][]byte{"user.empty": {}, "system.posix_acl_access": sampleACL}},
		{"null", map[string][]byte{}},
	} {
		got, err := f.Xattrs(c.path)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("Xattrs(%s) = %q, %v", c.path, got, err)
		}
		for name, value := range c.want {
			if !bytes.Equal(got[name], value) {
				t.Errorf("Xattrs(%s)[%s] = %q, want %q", c.path, name, got[name], value)
			}
		}
	}
}

func TestSuper(t *testing.T) {
	needTools(t, "mke2fs")
	f := open(t, mke2fs(t, "24M", "-b", "2048", "-L", "a label", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-J", "size=4", "-I", "512", "-N", "1024"))
	s := f.Super()
	if s.Label != "a label" || s.UUID != [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef} ||
		s.BlockSize != 2048 || s.Blocks != 12288 || s.Inodes != 1024 || s.FreeInodes != 1013 || s.InodeSize != 512 ||
		s.Groups != 1 || s.JournalBlocks != 2048 || !s.Clean || s.NeedsRecovery || s.Created.IsZero() || s.Written.IsZero() {
		t.Errorf("Super() = %+v", s)
	}
	for _, name := range []string{"has_journal", "extent", "64bit", "metadata_csum"} {
		if !slices.Contains(s.Features, name) {
			t.Errorf("features %q lack %s", s.Features, name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	needTools(t, "mke2fs")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"bigalloc", []string{"-O", "bigalloc"}},
		{"inline_data", []string{"-O", "inline_data"}},
		{"encrypt", []string{"-O", "encrypt"}},
		{"verity", []string{"-O", "verity"}},
		{"casefold", []string{"-O", "casefold"}},
		{"journal_dev", []string{"-O", "journal_dev"}},
	} {
		b, err := os.ReadFile(mke2fs(t, "8M", c.args...))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(bytes.NewReader(b), int64(len(b)))
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 100), make([]byte, 4096)} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d zero bytes: %v, want ErrCorrupt", len(b), err)
		}
	}
}

func TestNeedsRecovery(t *testing.T) {
	needTools(t, "mke2fs", "debugfs")
	image := mke2fs(t, "8M")
	command(t, "debugfs", "-w", "-R", "feature needs_recovery", image)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Super(); !s.NeedsRecovery || s.Clean {
		t.Errorf("NeedsRecovery %v, Clean %v", s.NeedsRecovery, s.Clean)
	}
	if _, err := Open(bytes.NewReader(b), int64(len(b)), RequireClean()); err == nil || !strings.Contains(err.Error(), "e2fsck") {
		t.Errorf("RequireClean: %v", err)
	}
	problems, err := f.Check(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Found, "journal holds changes") {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

func TestTruncatedImage(t *testing.T) {
	needTools(t, "mke2fs")
	b, err := os.ReadFile(mke2fs(t, "8M"))
	if err != nil {
		t.Fatal(err)
	}
	b = b[:len(b)-1]
	if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("image without its last byte: %v", err)
	}
	if _, err := Open(bytes.NewReader(b[:2048]), 8<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("image shorter than its size: %v", err)
	}
}
