package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// assertNothingHalfMade checks that no temporary files and no locks of actions are left.
func assertNothingHalfMade(t testing.TB, s *Store) {
	t.Helper()
	for _, dir := range []string{"tmp", "locks"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if dir == "tmp" || isHex64(e.Name()) {
				t.Errorf("%s/%s is left", dir, e.Name())
			}
		}
	}
}

func put(t testing.TB, s *Store, b []byte) Blob {
	t.Helper()
	blob, err := s.Put(context.Background(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func TestPutAndOpen(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, n := range []int{0, 1, 1 << 20, 3<<20 + 7} {
		want := randomBytes(uint64(n), n)
		b := put(t, s, want)
		if b.Digest != DigestOf(want) || b.Size != int64(n) {
			t.Errorf("%d bytes: %+v", n, b)
		}
		f, err := s.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes come back differently (%v)", n, err)
		}
	}
	assertNothingHalfMade(t, s)
}

func TestWriterAtRandom(t *testing.T) {
	for _, c := range []struct {
		name  string
		write func(w *Writer)
		want  string
	}{
		{"write at", func(w *Writer) { w.WriteAt([]byte("cd"), 2); w.WriteAt([]byte("ab"), 0) }, "abcd"},
		{"write, then patch", func(w *Writer) { w.Write([]byte("abcd")); w.WriteAt([]byte("X"), 1) }, "aXcd"},
		{"patch, then write on", func(w *Writer) { w.Write([]byte("ab")); w.WriteAt([]byte("X"), 0); w.Write([]byte("cd")) }, "Xbcd"},
		{"grow", func(w *Writer) { w.Write([]byte("ab")); w.Truncate(4) }, "ab\x00\x00"},
		{"shrink", func(w *Writer) { w.Write([]byte("abcd")); w.Truncate(1) }, "a"},
		{"through the file", func(w *Writer) { w.Write([]byte("abcd")); w.File().WriteAt([]byte("YZ"), 2) }, "abYZ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			w, err := s.Create(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			c.write(w)
			b, err := w.Commit()
			if err != nil {
				t.Fatal(err)
			}
			if b.Digest != DigestOf([]byte(c.want)) {
				t.Errorf("digest of something else than %q", c.want)
			}
			f, err := s.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, err := io.ReadAll(f); err != nil || string(got) != c.want {
				t.Errorf("%q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func TestBlobsOfWrongNameAreRefused(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, d := range []Digest{"", "sha256:", "sha256:../../../etc/passwd", Digest("sha256:" + strings.Repeat("A", 64)), Digest(strings.Repeat("a", 71))} {
		if _, err := s.Open(Blob{d, 1}); err == nil {
			t.Errorf("digest %q was opened", d)
		}
	}
}

// TestStampIsRenewed damages a blob's stamp. The blob must be hashed, found sound and stamped
// again.
func TestStampIsRenewed(t *testing.T) {
	s := openStore(t, t.TempDir())
	b := put(t, s, []byte("content"))
	want := s.readStamp(b.Digest)
	if want == (stamp{}) {
		t.Fatal("a new blob has no stamp")
	}
	for _, text := range []string{"", "garbage", want.String()[:10], strings.Replace(want.String(), "size=7", "size=8", 1)} {
		if err := os.WriteFile(s.stampPath(b.Digest), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(b); err != nil {
			t.Errorf("stamp %q: %v", text, err)
		}
		if got := s.readStamp(b.Digest); got != want {
			t.Errorf("stamp %q was not renewed: %v", text, got)
		}
	}
}

func TestSweepKeepsLockedFiles(t *testing.T) {
	s := openStore(t, t.TempDir())
	alive, release, err := s.Scratch("a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	w, err := s.Create(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	dead := filepath.Join(s.dir, "tmp", "dead")
	if err := os.MkdirAll(filepath.Join(dead, "scratch-a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Error("the leftover of a dead process is still there")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Error("the directory of a running build was removed")
	}
	if _, err := w.Commit(); err != nil {
		t.Errorf("the file of a running build was removed: %v", err)
	}
}

func TestExport(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, t.TempDir())
	want := randomBytes(1, 1<<20)
	b, other := put(t, s, want), put(t, s, randomBytes(2, 1<<20))
	path := filepath.Join(t.TempDir(), "rootfs.img")
	export := func(b Blob, wantWritten bool) {
		t.Helper()
		written, err := s.Export(ctx, b, path, 0o644)
		if err != nil || written != wantWritten {
			t.Errorf("written %v, %v; want %v", written, err, wantWritten)
		}
		if got, _ := os.ReadFile(path); DigestOf(got) != b.Digest {
			t.Error("the file is not the blob")
		}
	}
	export(b, true)
	export(b, false)
	export(other, true)
	export(b, true)

	// Same size, same mtime, another content.
	info, _ := os.Stat(path)
	if err := os.WriteFile(path, randomBytes(3, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(path, info.ModTime(), info.ModTime())
	export(b, true)
	if err := s.Check(b); err != nil {
		t.Errorf("writing to the exported file reached the store: %v", err)
	}

	// A file that another program wrote is recognised by its digest.
	os.Remove(path)
	os.WriteFile(path, want, 0o600)
	export(b, false)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, want 0644", info.Mode())
	}

	// A symbolic link is replaced; its target is not written to.
	target := filepath.Join(t.TempDir(), "target")
	os.WriteFile(target, want, 0o644)
	os.Remove(path)
	os.Symlink(target, path)
	export(b, true)
	if info, _ := os.Lstat(path); !info.Mode().IsRegular() {
		t.Errorf("%v is not a plain file", info.Mode())
	}
}

func TestExportKeepsHoles(t *testing.T) {
	s := openStore(t, t.TempDir())
	const size = 64 << 20
	w, err := s.Create(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	w.Truncate(size)
	w.WriteAt([]byte("start"), 0)
	w.WriteAt([]byte("middle"), size/2)
	b, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sparse")
	if _, err := s.Export(context.Background(), b, path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := hashFile(f, size); err != nil || got != b.Digest {
		t.Errorf("the copy differs (%v)", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 > 1<<20 {
		t.Errorf("two written blocks of %d bytes take %d on the disk", size, stat.Blocks*512)
	}
}

func TestExportRemovesLeftoversAndStops(t *testing.T) {
	s := openStore(t, t.TempDir())
	b := put(t, s, randomBytes(1, 1<<20))
	dir := t.TempDir()
	leftover := filepath.Join(dir, ".x.new-123")
	os.WriteFile(leftover, nil, 0o600)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Export(ctx, b, filepath.Join(dir, "x"), 0o644); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}
