//go:build linux

package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// wholeFile is the size up to which a file is compared byte by byte. Of larger files only the data
// is compared: the extents, and the ranges that the kernel reports as data.
const wholeFile = 1 << 20

// compareByKernel mounts an image and compares everything in it.
func compareByKernel(t *testing.T, image string, want *tree.Tree) {
	dir, _ := mounttest.Loop(t, image, "ro")
	diffs := 0
	compareMount(want, dir, func(format string, args ...any) {
		if diffs++; diffs <= 20 {
			t.Errorf(format, args...)
		}
	})
}

// compareMount reports each difference between a mounted file system and a tree.
func compareMount(want *tree.Tree, dir string, report func(format string, args ...any)) {
	inodes := make(map[*tree.Inode]uint64)
	err := want.Walk(func(p string, n *tree.Inode) error {
		path := filepath.Join(dir, p)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			report("%s: %v", p, err)
			return nil
		}
		if ino, ok := inodes[n]; ok && ino != st.Ino {
			report("%s: is inode %d, its other name is %d", p, st.Ino, ino)
		}
		if _, ok := inodes[n]; ok {
			return nil
		}
		inodes[n] = st.Ino
		compareStat(p, n, &st, report)
		compareXattrs(p, path, n, report)
		switch {
		case n.IsDir():
			compareNames(p, path, n, report)
		case n.IsSymlink():
			if target, err := os.Readlink(path); err != nil || target != n.Target {
				report("%s: links to %q, %v; want %q", p, target, err, n.Target)
			}
		case n.IsRegular():
			if err := compareContent(path, n.Content); err != nil {
				report("%s: %v", p, err)
			}
		}
		return nil
	})
	if err != nil {
		report("walk: %v", err)
	}
}

func compareStat(p string, n *tree.Inode, st *unix.Stat_t, report func(string, ...any)) {
	if st.Mode != n.Mode || st.Uid != n.UID || st.Gid != n.GID {
		report("%s: mode %o owner %d:%d, want %o %d:%d", p, st.Mode, st.Uid, st.Gid, n.Mode, n.UID, n.GID)
	}
	for name, ts := range map[string]unix.Timespec{"mtime": st.Mtim, "ctime": st.Ctim, "atime": st.Atim} {
		if got := time.Unix(ts.Unix()); !got.Equal(n.ModTime) {
			report("%s: %s %v, want %v", p, name, got, n.ModTime)
		}
	}
	if n.IsDevice() && (unix.Major(st.Rdev) != n.Major || unix.Minor(st.Rdev) != n.Minor) {
		report("%s: device %d:%d, want %d:%d", p, unix.Major(st.Rdev), unix.Minor(st.Rdev), n.Major, n.Minor)
	}
	links := uint64(n.Nlink())
	if p == "." {
		links = uint64(st.Nlink) // lost+found may add one
	} else if n.IsDir() && links > linkMax {
		links = 1
	}
	if uint64(st.Nlink) != links {
		report("%s: %d links, want %d", p, st.Nlink, links)
	}
	if n.IsRegular() && st.Size != n.Content.Size {
		report("%s: %d bytes, want %d", p, st.Size, n.Content.Size)
	}
}

func compareXattrs(p, path string, n *tree.Inode, report func(string, ...any)) {
	list := make([]byte, 4<<10)
	size, err := unix.Llistxattr(path, list)
	if err != nil {
		report("%s: list extended attributes: %v", p, err)
		return
	}
	var names []string
	for _, name := range strings.Split(string(list[:size]), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	// The kernel lists user.* attributes only of regular files and directories; the corpus has no
	// others.
	want := slices.Sorted(maps.Keys(n.Xattrs))
	if !slices.Equal(names, want) {
		report("%s: extended attributes %q, want %q", p, names, want)
	}
	for name, value := range n.Xattrs {
		got := make([]byte, 4<<10)
		size, err := unix.Lgetxattr(path, name, got)
		if err != nil || !bytes.Equal(got[:size], value) {
			report("%s: %s is %q, %v; want %q", p, name, got[:max(size, 0)], err, value)
		}
	}
}

func compareNames(p, path string, n *tree.Inode, report func(string, ...any)) {
	entries, err := os.ReadDir(path)
	if err != nil {
		report("%s: %v", p, err)
		return
	}
	got := len(entries)
	for _, e := range entries {
		if _, ok := n.Entry(e.Name()); !ok {
			if p == "." && e.Name() == lostAndFoundName {
				got--
				continue
			}
			report("%s: has %q, which is not in the tree", p, e.Name())
		}
	}
	if got != n.Len() {
		report("%s: %d entries, want %d", p, got, n.Len())
	}
}

// compareContent compares a file's bytes and holes.
func compareContent(path string, c tree.Content) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Size <= wholeFile {
		got, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		want, err := io.ReadAll(c.Open())
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("bytes differ")
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	var stored int64
	for _, e := range c.Extents {
		stored += e.Length
		if err := equalBytes(f, c, e.Offset, e.Length); err != nil {
			return err
		}
	}
	// Everything else is a hole, except for incomplete blocks and the extent tree.
	if most := stored + int64(len(c.Extents)+8)*2*int64(st.Blksize); st.Blocks*512 > most {
		return fmt.Errorf("takes %d bytes, want no more than %d", st.Blocks*512, most)
	}
	return equalHoles(f, c)
}

// equalHoles compares the ranges that the kernel reports as data, which may be larger than the
// extents.
func equalHoles(f *os.File, c tree.Content) error {
	for off := int64(0); off < c.Size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := equalBytes(f, c, start, end-start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

func equalBytes(a, b io.ReaderAt, off, n int64) error {
	bufA, bufB := make([]byte, min(n, 1<<20)), make([]byte, min(n, 1<<20))
	for n > 0 {
		size := min(n, int64(len(bufA)))
		if _, err := a.ReadAt(bufA[:size], off); err != nil && err != io.EOF {
			return err
		}
		if _, err := b.ReadAt(bufB[:size], off); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(bufA[:size], bufB[:size]) {
			return fmt.Errorf("bytes differ between %d and %d", off, off+size)
		}
		off, n = off+size, n-size
	}
	return nil
}

// TestKernelUsesFreeSpace writes to a mounted image until it is full, removes the files, and checks
// the result with e2fsck.
func TestKernelUsesFreeSpace(t *testing.T) {
	needTools(t, "e2fsck")
	for _, c := range []struct {
		name    string
		options Options
	}{
		{"no journal", Options{Size: 48 << 20}},
		{"journal", Options{Size: 64 << 20, Journal: 4 << 20}},
		{"small blocks", Options{Size: 64 << 20, BlockSize: 1024, Journal: 2 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := everyKind(t)
			b := corpusBuilder{t, want}
			for i := range 3000 {
				b.file(fmt.Sprintf("hashed/%d", i), tree.Content{})
			}
			image, stats := writeImage(t, want, c.options)
			dir, unmount := mounttest.Loop(t, image, "")
			if stats.FreeBytes < 10<<20 || stats.FreeInodes < 1000 {
				t.Fatalf("no room to speak of: %+v", stats)
			}
			useMount(t, dir)
			unmount()
			command(t, "e2fsck", "-fn", image)
			dir, _ = mounttest.Loop(t, image, "ro")
			if got, err := os.ReadFile(filepath.Join(dir, "files", "4097")); err != nil || !bytes.Equal(got, randomBytes(4097, 4097)) {
				t.Errorf("files/4097 is not what it was: %v", err)
			}
		})
	}
}

// useMount creates, renames and removes files, fills the disk and frees it.
func useMount(t *testing.T, dir string) {
	hashed := filepath.Join(dir, "hashed")
	for i := range 500 {
		if err := os.WriteFile(filepath.Join(hashed, fmt.Sprintf("new %d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(hashed, fmt.Sprint(i*3))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(dir, "names"), filepath.Join(hashed, "names")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "sparse")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "xattrs", "mixed"), "user.new", []byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "fills the disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	var written int64
	for err == nil {
		var n int
		n, err = f.Write(block)
		written += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) || written < 8<<20 {
		t.Errorf("the disk took %d bytes and then %v", written, err)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Error(err)
	}
}
