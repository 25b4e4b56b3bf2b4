package durable

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
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	oldText = "the old content\n"
	newText = "the new content, which is longer\n"
)

// old creates a file with the old content.
func old(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte(oldText), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// check compares a file's content and the names of the other files in its folder.
func check(t *testing.T, path, content string, others ...string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != content {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, content)
	}
	if left := beside(t, path); !slices.Equal(left, others) {
		t.Errorf("beside %s: %q, want %q", path, left, others)
	}
}

func beside(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestPermissions(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o277} {
		for _, perm := range []fs.FileMode{0o400, 0o444, 0o600, 0o640, 0o644, 0o666, 0o755} {
			t.Run(fmt.Sprintf("%o-%o", umask, perm), func(t *testing.T) {
				path := old(t, t.TempDir())
				defer unix.Umask(unix.Umask(umask))
				if err := WriteFile(path, []byte(newText), perm); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil || info.Mode() != perm {
					t.Errorf("its mode is %v, %v", info.Mode(), err)
				}
				check(t, path, newText)
			})
		}
	}
}

// TestPrivateWhileWritten verifies that a private file is private from its creation.
func TestPrivateWhileWritten(t *testing.T) {
	path := old(t, t.TempDir())
	var modes []fs.FileMode
	look := func(f *File) {
		f.step = func(at string) {
			if info, err := f.Stat(); err == nil && (at == "created" || at == "written") {
				modes = append(modes, info.Mode())
			}
		}
	}
	if err := WriteFile(path, []byte(newText), 0o644, look); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(modes, []fs.FileMode{0o600, 0o600}) {
		t.Errorf("modes %v", modes)
	}
}

// TestKilledWriter kills a writer after each of its steps. The file must have the old or the new
// content, and the next writer must remove leftovers.
func TestKilledWriter(t *testing.T) {
	for _, tt := range []struct {
		step string
		text string
		left int
	}{
		{"created", oldText, 1},
		{"written", oldText, 1},
		{"chmod", oldText, 1},
		{"synced", oldText, 1},
		{"renamed", newText, 0},
	} {
		t.Run(tt.step, func(t *testing.T) {
			path := old(t, t.TempDir())
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "DURABLE_HELPER=die-"+tt.step+" "+path)
			out, err := cmd.CombinedOutput()
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("the writer did not die: %v, %s", err, out)
			}
			left := beside(t, path)
			if len(left) != tt.left {
				t.Errorf("it left %q, want %d", left, tt.left)
			}
			check(t, path, tt.text, left...)
			if err := WriteFile(path, []byte("third"), 0o600); err != nil {
				t.Fatal(err)
			}
			check(t, path, "third")
		})
	}
}

// TestLeftovers verifies that only the files of killed writers are removed, not those of living
// writers or files with similar names.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := old(t, dir)
	writer := start(t, "write", path)
	living := beside(t, path)
	others := []string{".file.new-", ".file.new-1x", ".file.new-1.new-2", ".other.new-1"}
	for _, name := range append(slices.Clone(others), ".file.new-1") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".file.new-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(slices.Concat(others, living, []string{".file.new-2"})))
	if err := RemoveLeftovers(path); err != nil {
		t.Fatal(err)
	}
	check(t, path, oldText, want...)
	writer.kill()
	if err := RemoveLeftovers(path); err != nil {
		t.Fatal(err)
	}
	check(t, path, oldText, slices.DeleteFunc(want, func(name string) bool { return name == living[0] })...)
	if err := RemoveLeftovers(filepath.Join(dir, "missing", "file")); err != nil {
		t.Errorf("in a folder that does not exist: %v", err)
	}
}

// TestWriteTogether verifies that concurrent writers of one path, which all remove leftovers, do
// not remove each other's temporary files.
func TestWriteTogether(t *testing.T) {
	path := old(t, t.TempDir())
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for range 20 {
				if err := WriteFile(path, bytes.Repeat([]byte{'a' + byte(i)}, 1000), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	text, err := os.ReadFile(path)
	if err != nil || len(text) != 1000 || strings.Trim(string(text), string(text[:1])) != "" {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if left := beside(t, path); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := old(t, dir)
	err := WriteFile(path, make([]byte, 1<<20), 0o600)
	if place := new(fs.PathError); !errors.Is(err, unix.ENOSPC) || !errors.As(err, &place) || place.Path != path {
		t.Errorf("got %v, want ENOSPC about %s", err, path)
	}
	check(t, path, oldText)
}

func TestUnwritableFolder(t *testing.T) {
	for name, attempt := range map[string]struct {
		dir  func(t *testing.T, dir string)
		want error
	}{
		"missing":   {func(_ *testing.T, dir string) { os.RemoveAll(dir) }, fs.ErrNotExist},
		"a file":    {func(_ *testing.T, dir string) { os.RemoveAll(dir); os.WriteFile(dir, nil, 0o600) }, unix.ENOTDIR},
		"read-only": {makeReadOnly, fs.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			attempt.dir(t, dir)
			path := filepath.Join(dir, "file")
			err := WriteFile(path, nil, 0o600)
			if place := new(fs.PathError); !errors.Is(err, attempt.want) || !errors.As(err, &place) || place.Path != path {
				t.Errorf("got %v, want %v about %s", err, attempt.want, path)
			}
		})
	}
}

// makeReadOnly removes write permission from a folder. For root, who ignores permissions, it makes
// the folder immutable (chattr(1)).
func makeReadOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		os.Chmod(dir, 0o500)
		return
	}
	if out, err := exec.Command("chattr", "+i", dir).CombinedOutput(); err != nil {
		t.Fatalf("chattr: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("chattr", "-i", dir).Run() })
}

func TestReadOnlyFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := old(t, dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte(newText), 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v", err)
	}
	check(t, path, oldText)
	l, err := TryLock(path, Shared, LockOptions{})
	if err != nil {
		t.Fatalf("share a file that is there: %v", err)
	}
	l.Release()
	if _, err := TryLock(path, Exclusive, LockOptions{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("lock: %v", err)
	}
}

// TestAbandoned verifies that a File that is closed, or whose Commit fails, leaves nothing.
func TestAbandoned(t *testing.T) {
	path := old(t, t.TempDir())
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	check(t, path, oldText)

	folder := filepath.Join(filepath.Dir(path), "folder") // a file cannot replace it
	if err := os.MkdirAll(filepath.Join(folder, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(folder, nil, 0o600); err == nil {
		t.Error("a file has replaced a folder")
	}
	check(t, path, oldText, "folder")
}

func TestCommittedFileStaysOpen(t *testing.T) {
	path := old(t, t.TempDir())
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if !SameFile(f.File, path) {
		t.Error("the open file is not the one at the path")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	check(t, path, "")
}

func TestKeepExisting(t *testing.T) {
	path := old(t, t.TempDir())
	if err := WriteFile(path, []byte(newText), 0o600, KeepExisting()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	check(t, path, oldText)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte(newText), 0o600, KeepExisting()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte(newText), 0o640, KeepExisting()); err != nil {
		t.Fatal(err)
	}
	check(t, path, newText)
	other := path + ".other"
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := renameKeeping(other, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("renameKeeping over a file: %v", err)
	}
	check(t, path, newText, "file.other")
}

func TestInAnotherFolder(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	path := old(t, dir)
	f, err := Create(path, 0o600, In(tmp), NoSync())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	check(t, path, oldText)
	if filepath.Dir(f.Name()) != tmp {
		t.Errorf("it is written as %s", f.Name())
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	check(t, path, "")
	if left := beside(t, filepath.Join(tmp, "none")); left != nil {
		t.Errorf("left over: %q", left)
	}
}

// TestReplacesLink verifies that a link is replaced and its target is kept.
func TestReplacesLink(t *testing.T) {
	dir := t.TempDir()
	target := old(t, dir)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte(newText), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, target, oldText, "link")
	check(t, link, newText, "file")
}
