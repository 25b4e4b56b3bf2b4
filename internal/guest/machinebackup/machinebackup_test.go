//go:build linux

package machinebackup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, name, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), 0o644))
}

// listing returns a line for each file below dir: name, type, mode, owner, modification time of a
// file, and content.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || name == dir {
			return err
		}
		var stat unix.Stat_t
		must(t, unix.Lstat(name, &stat))
		short, _ := filepath.Rel(dir, name)
		fmt.Fprintf(&b, "%s %o %d:%d %d", short, stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Nano())
		if target, err := os.Readlink(name); err == nil {
			b.WriteString(" -> " + target)
		} else if info.Mode().IsRegular() {
			content, err := os.ReadFile(name)
			must(t, err)
			fmt.Fprintf(&b, " %.20q", content)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// TestArchive: extracting an archive restores everything that Archive documents.
func TestArchive(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("other owners need root")
	}
	from, to := t.TempDir(), t.TempDir()
	data := filepath.Join(from, "data")
	write(t, filepath.Join(data, "app/deep/er/file"), "content")
	write(t, filepath.Join(data, "app/secret"), "x")
	write(t, filepath.Join(data, "app/large"), strings.Repeat("large", 1<<18))
	write(t, filepath.Join(data, "app/\xff\n name"), "odd")
	write(t, filepath.Join(data, "single"), "one file")
	write(t, filepath.Join(data, "not saved"), "")
	must(t, os.Mkdir(filepath.Join(data, "app/closed"), 0o500))
	must(t, os.Symlink("../../../etc/passwd", filepath.Join(data, "app/link")))
	must(t, os.Link(filepath.Join(data, "app/secret"), filepath.Join(data, "app/hard")))
	must(t, unix.Mkfifo(filepath.Join(data, "app/pipe"), 0o600))
	must(t, os.Chmod(filepath.Join(data, "app/secret"), 0o640))
	must(t, os.Lchown(filepath.Join(data, "app/secret"), 12345, 54321))
	must(t, os.Lchown(filepath.Join(data, "app/deep"), 65534, 0))
	must(t, unix.Chmod(filepath.Join(data, "app/deep"), 0o2770))
	for _, name := range []string{"app/secret", "app/deep/er", "app/link"} {
		when := unix.NsecToTimespec(1_234_567_890_123_456_789)
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(data, name), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
	paths := []string{filepath.Join(data, "app"), filepath.Join(data, "single"), filepath.Join(data, "absent")}
	var b bytes.Buffer
	must(t, Archive(t.Context(), &b, paths))
	foreign, err := Extract(bytes.NewReader(b.Bytes()), paths, to)
	if err != nil || foreign != 0 {
		t.Fatalf("%d, %v", foreign, err)
	}
	must(t, os.Remove(filepath.Join(data, "app/pipe")))
	want, got := listing(t, filepath.Join(data, "app")), listing(t, filepath.Join(to, data, "app"))
	if want != got {
		t.Errorf("it was\n%s\nand is\n%s", want, got)
	}
	if content, err := os.ReadFile(filepath.Join(to, data, "single")); err != nil || string(content) != "one file" {
		t.Errorf("%q, %v", content, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(to, data)); len(entries) != 2 {
		t.Errorf("there are %v", entries)
	}
	if _, err := Extract(bytes.NewReader(b.Bytes()), paths, to); !errors.Is(err, os.ErrExist) {
		t.Errorf("into a directory that is not empty: %v", err)
	}
	deep := filepath.Join(data, "deep", strings.Repeat("d/", maxName/2))
	must(t, os.MkdirAll(deep, 0o755))
	if err := Archive(t.Context(), io.Discard, []string{filepath.Join(data, "deep")}); err == nil || !strings.Contains(err.Error(), "a restore would refuse it") {
		t.Errorf("what Extract would refuse: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Archive(ctx, io.Discard, paths); !errors.Is(err, context.Canceled) {
		t.Errorf("it continues without a reader: %v", err)
	}
}

// entries returns a tar of headers. The content of a file is its name.
func entries(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		must(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := io.WriteString(w, h.Name)
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
func dir(name string) tar.Header  { return tar.Header{Name: name + "/", Typeflag: tar.TypeDir} }
func link(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

// holes returns a tar of a sparse file of 1 TiB, as GNU tar makes it. It has a few KiB.
func holes(t *testing.T, format string) []byte {
	t.Helper()
	from := t.TempDir()
	write(t, filepath.Join(from, "data/a"), "beginning")
	must(t, os.Truncate(filepath.Join(from, "data/a"), 1<<40))
	out, err := exec.Command("tar", "--sparse", "--format="+format, "-C", from, "-cf", "-", "data/a").Output()
	must(t, err)
	return out
}

// TestHostileTar: a tar of an attacker writes nothing outside the directory, and does not grant
// permissions.
func TestHostileTar(t *testing.T) {
	outside := t.TempDir()
	deep := []tar.Header{dir("data/a")}
	for range maxDepth {
		deep = append(deep, dir(strings.TrimSuffix(deep[len(deep)-1].Name, "/")+"/d"))
	}
	for name, c := range map[string]struct {
		tar  []byte
		want string
	}{
		"up":            {entries(t, dir("data/a"), file("data/a/../../x")), "plain name"},
		"absolute":      {entries(t, file("/data/a")), "plain name"},
		"dot":           {entries(t, dir("data/a"), file("data/a/./x")), "plain name"},
		"root":          {entries(t, dir(".")), "plain name"},
		"beside":        {entries(t, file("data/ab")), "not below"},
		"above":         {entries(t, dir("data")), "not below"},
		"hard link":     {entries(t, dir("data/a"), tar.Header{Name: "data/a/l", Typeflag: tar.TypeLink, Linkname: outside}), "type"},
		"device":        {entries(t, dir("data/a"), tar.Header{Name: "data/a/d", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}), "type"},
		"pipe":          {entries(t, dir("data/a"), tar.Header{Name: "data/a/d", Typeflag: tar.TypeFifo}), "type"},
		"through link":  {entries(t, dir("data/a"), link("data/a/l", outside), file("data/a/l/x")), "without its directory"},
		"link for path": {entries(t, link("data/a", outside), file("data/a/x")), "without its directory"},
		"twice":         {entries(t, dir("data/a"), file("data/a/x"), file("data/a/x")), "file exists"},
		"over link":     {entries(t, dir("data/a"), link("data/a/x", outside+"/x"), file("data/a/x")), "file exists"},
		"dir over link": {entries(t, dir("data/a"), link("data/a/x", outside), dir("data/a/x")), "file exists"},
		"back":          {entries(t, dir("data/a"), dir("data/a/b"), dir("data/a/c"), file("data/a/b/x")), "without its directory"},
		"no directory":  {entries(t, file("data/a/b/x")), "without its directory"},
		"long":          {entries(t, dir("data/a"), file("data/a/"+strings.Repeat("x/", maxName)+"x")), "plain name"},
		"deep":          {entries(t, deep...), "directories"},
		"holes":         {holes(t, "pax"), "holes"},
		"GNU's holes":   {holes(t, "gnu"), "type"},
		"cut":           {entries(t, dir("data/a"), file("data/a/x"))[:700], "unexpected EOF"},
	} {
		to := t.TempDir()
		if _, err := Extract(bytes.NewReader(c.tar), []string{"/data/a", "/data/other"}, to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Fatalf("%s: outside there are %v", name, left)
		}
	}
	suid := file("data/a")
	suid.Mode = 0o6755
	to := t.TempDir()
	if _, err := Extract(bytes.NewReader(entries(t, suid)), []string{"/data/a"}, to); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(to, "data/a")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// FuzzExtract: no tar creates a file outside the paths. It creates only files, directories and
// links.
func FuzzExtract(f *testing.F) {
	f.Add(entries(f, dir("data/a"), file("data/a/x"), link("data/a/l", "/etc/passwd"), dir("data/a/d"), file("data/a/d/y")))
	f.Add(entries(f, link("data/a", "/"), file("data/a/x")))
	f.Add(entries(f, dir("data/a"), tar.Header{Name: "data/a/l", Typeflag: tar.TypeLink, Linkname: "data/a"}))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		base := t.TempDir()
		to := filepath.Join(base, "to")
		must(t, os.Mkdir(to, 0o700))
		_, _ = Extract(bytes.NewReader(text), []string{"/data/a"}, to)
		must(t, filepath.Walk(base, func(name string, info os.FileInfo, err error) error {
			must(t, err)
			inside := strings.HasPrefix(name, filepath.Join(to, "data/a"))
			if !inside && !slices.Contains([]string{base, to, filepath.Join(to, "data")}, name) {
				t.Errorf("there is %q", name)
			}
			if kind := info.Mode().Type(); kind != 0 && kind != os.ModeDir && kind != os.ModeSymlink || info.Mode()&os.ModeSetuid != 0 {
				t.Errorf("%q is %s", name, info.Mode())
			}
			return nil
		}))
	})
}

// TestSwap interrupts a swap after each of its changes, and completes it with Recover as a
// restarted machine does.
func TestSwap(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the directory for restores is root's")
	}
	services := []guestspec.Service{{Name: "app", Backup: &guestspec.Backup{Paths: []string{"/x"}}}}
	// make creates the state before the swap.
	make := func() ([]string, *swap) {
		base := t.TempDir()
		data, volume := filepath.Join(base, "data"), filepath.Join(base, "volume")
		must(t, os.Mkdir(data, 0o755))
		must(t, os.Mkdir(volume, 0o755))
		dirs, err := makeRestoreDirs([]string{data, volume}, services)
		must(t, err)
		restoreDir := dirs[0]
		write(t, filepath.Join(volume, "own/old"), "old")
		write(t, filepath.Join(volume, "file"), "old")
		write(t, filepath.Join(dirs[1], "app/own/new"), "new")
		write(t, filepath.Join(dirs[1], "app/file"), "new")
		write(t, filepath.Join(data, "own/old"), "old")
		write(t, filepath.Join(data, "own/both"), "old")
		write(t, filepath.Join(data, "tree/sub/old"), "old")
		write(t, filepath.Join(data, "file"), "old")
		write(t, filepath.Join(data, "gone"), "old")
		staged := filepath.Join(restoreDir, "app")
		write(t, filepath.Join(staged, "own/new"), "new")
		write(t, filepath.Join(staged, "own/both"), "new")
		write(t, filepath.Join(staged, "tree/sub/new"), "new")
		write(t, filepath.Join(staged, "file"), "new")
		write(t, filepath.Join(staged, "created"), "new")
		s := &swap{dir: restoreDir, Items: []item{
			{Path: filepath.Join(data, "own"), New: "app/own", Contents: true},
			{Path: filepath.Join(data, "tree/sub"), New: "app/tree/sub"},
			{Path: filepath.Join(data, "file"), New: "app/file"},
			{Path: filepath.Join(data, "gone")},
			{Path: filepath.Join(data, "absent")},
			{Path: filepath.Join(data, "created"), New: "app/created"},
			{Path: filepath.Join(volume, "own"), Dir: dirs[1], New: "app/own", Contents: true},
			{Path: filepath.Join(volume, "file"), Dir: dirs[1], New: "app/file"},
		}}
		must(t, s.begin())
		return []string{data, volume}, s
	}
	names := func(roots []string) string {
		var b strings.Builder
		for line := range strings.Lines(listing(t, filepath.Dir(roots[0]))) {
			if !strings.Contains(line, guestspec.RestoreDir) {
				fields := strings.Fields(line)
				if strings.HasPrefix(fields[1], "1") { // a regular file
					b.WriteString(fields[0] + "=" + fields[len(fields)-1] + " ")
				}
			}
		}
		return b.String()
	}
	const want = `data/created="new" data/file="new" data/own/both="new" data/own/new="new" data/tree/sub/new="new" volume/file="new" volume/own/new="new" `
	steps := 0
	for stop := 0; ; stop++ {
		roots, s := make()
		// The swap is interrupted after stop changes.
		count := 0
		rename = func(from int, fromName string, to int, toName string, flags uint) error {
			if count++; count > stop {
				return errors.New("the power is gone")
			}
			return unix.Renameat2(from, fromName, to, toName, flags)
		}
		err := s.finish()
		rename = unix.Renameat2
		if err == nil {
			steps = stop
			break
		}
		must(t, Recover(roots, services))
		if got := names(roots); got != want {
			t.Errorf("interrupted after %d changes: %s", stop, got)
		}
		if _, err := os.Lstat(filepath.Join(roots[0], guestspec.RestoreDir, note)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the note is still there: %v", err)
		}
		must(t, Recover(roots, services)) // nothing is left to do
	}
	if steps < 10 {
		t.Errorf("it was interrupted at %d places", steps)
	}
	// A service that places a symbolic link in the path cannot move files of others.
	roots, s := make()
	data := roots[0]
	must(t, os.Rename(filepath.Join(data, "tree"), filepath.Join(data, "tree.away")))
	must(t, os.Symlink("tree.away", filepath.Join(data, "tree")))
	if err := s.check(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link in the way is not seen: %v", err)
	}
	if err := s.finish(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("through a link: %v", err)
	}
}

func TestRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=130m"); err != nil {
		t.Skip("mounting needs root")
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	large := tar.Header{Name: "data/a", Typeflag: tar.TypeReg, Mode: 0o600, Size: 64 << 20, ModTime: time.Unix(0, 0)}
	r, w := io.Pipe()
	go func() {
		files := tar.NewWriter(w)
		files.WriteHeader(&large)
		io.CopyN(files, zeros{}, large.Size)
		w.CloseWithError(files.Close())
	}()
	if _, err := Extract(r, []string{"/data/a"}, dir); err == nil || !strings.Contains(err.Error(), "too little space") {
		t.Errorf("%v", err)
	}
	r.Close()
	var stat unix.Statfs_t
	must(t, unix.Statfs(dir, &stat))
	if free := int64(stat.Bavail) * stat.Bsize; free < reserve-2*bytesPerLook {
		t.Errorf("%d MiB are free", free>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
