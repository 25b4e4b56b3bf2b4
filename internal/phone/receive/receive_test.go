package receive

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/phone/slots"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func newReceiver(t testing.TB, root string) *Receiver {
	t.Helper()
	vm, err := phonepath.Root(root).VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	return &Receiver{VM: vm, Arch: "arm64", Version: "test"}
}

// TestInstall installs a version from a folder, then the same version from an archive, which
// changes nothing, then another version from an archive.
func TestInstall(t *testing.T) {
	r := newReceiver(t, t.TempDir())
	rootfs := append(append(artifacttest.Noise(200_000, 1), make([]byte, 1<<20)...), artifacttest.Noise(100_000, 2)...)
	one := artifacttest.Make(t, "sql", "1", artifacttest.Noise(90_000, 3), rootfs)
	two := artifacttest.Make(t, "sql", "2", artifacttest.Noise(90_000, 3), rootfs[:len(rootfs)-4096])
	for _, c := range []struct {
		name string
		from fs.FS
		want pushapi.Done
	}{
		{"a folder", os.DirFS(one), pushapi.Done{Slot: "a"}},
		{"an archive of the same", archive(t, one), pushapi.Done{Slot: "a", Unchanged: true}},
		{"an archive of another version", archive(t, two), pushapi.Done{Slot: "b"}},
	} {
		done, err := r.Install(t.Context(), c.from, nil)
		if err != nil || *done != c.want {
			t.Fatalf("%s: %+v, %v", c.name, done, err)
		}
		if left, _ := os.ReadDir(r.VM.Incoming()); len(left) > 0 {
			t.Errorf("%s: %v is left", c.name, left)
		}
	}
	var s unix.Stat_t
	if err := unix.Stat(filepath.Join(r.VM.Slot("a"), "rootfs.img"), &s); err != nil || s.Size != int64(len(rootfs)) || s.Blocks*512 > 400_000 {
		t.Errorf("rootfs.img takes %d bytes for %d: its hole is filled: %v", s.Blocks*512, s.Size, err)
	}
	got, err := os.ReadFile(filepath.Join(r.VM.Slot("a"), "rootfs.img"))
	if err != nil || !bytes.Equal(got, rootfs) {
		t.Errorf("rootfs.img is another: %v", err)
	}
}

func archive(t *testing.T, dir string) fs.FS {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestInstallRefuses(t *testing.T) {
	r := newReceiver(t, t.TempDir())
	good := artifacttest.Make(t, "sql", "1", artifacttest.Noise(9000, 3), artifacttest.Noise(9000, 4))
	if _, err := r.Install(t.Context(), os.DirFS(good), nil); err != nil {
		t.Fatal(err)
	}
	damaged := artifacttest.Make(t, "sql", "2", artifacttest.Noise(9000, 3), artifacttest.Noise(9000, 5))
	if err := os.WriteFile(filepath.Join(damaged, "kernel"), artifacttest.Noise(9000, 6), 0o644); err != nil {
		t.Fatal(err)
	}
	short := artifacttest.Make(t, "sql", "2", artifacttest.Noise(9000, 3), artifacttest.Noise(9000, 5))
	if err := os.Truncate(filepath.Join(short, "kernel"), 10); err != nil {
		t.Fatal(err)
	}
	other := *r
	other.Arch = "amd64"
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, dir, says string
		r               *Receiver
		ctx             context.Context
	}{
		{"nothing", t.TempDir(), "no such file", r, t.Context()},
		{"a damaged file", damaged, "not what manifest.json says", r, t.Context()},
		{"a short file", short, "not what manifest.json says", r, t.Context()},
		{"another processor", artifacttest.Make(t, "sql", "2", []byte("k"), []byte("r")), "--arch amd64", &other, t.Context()},
		{"another machine", artifacttest.Make(t, "web", "2", []byte("k"), []byte("r")), "the machine web", r, t.Context()},
		{"no time", artifacttest.Make(t, "sql", "2", []byte("k"), []byte("r")), "canceled", r, stopped},
	} {
		if done, err := c.r.Install(c.ctx, os.DirFS(c.dir), nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want %q", c.name, done, err, c.says)
		}
		if slot, err := slots.Current(r.VM); err != nil || slot != "a" {
			t.Errorf("%s: current is %q, %v", c.name, slot, err)
		}
	}
}

// TestRoom: a phone without space reports it before anything is written. It removes the older
// version if that frees enough space.
func TestRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40M,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	r := newReceiver(t, dir)
	install := func(version string, size int) (*pushapi.Done, error) {
		t.Helper()
		return r.Install(t.Context(), os.DirFS(artifacttest.Make(t, "sql", version, []byte("kernel"), artifacttest.Noise(size, uint64(size)))), nil)
	}
	for _, version := range []string{"1", "2"} {
		if _, err := install(version, 2<<20); err != nil {
			t.Fatal(err)
		}
		_, trial, _, err := slots.Try(r.VM)
		if err == nil {
			err = trial.Passed()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refusal := &pushapi.Refusal{}
	if _, err := install("3", 9<<20); !errors.As(err, &refusal) || refusal.Code != pushapi.CodeSpace || slots.Look(r.VM, "a").State != "good" {
		t.Errorf("too much: %v; slot a is %+v", err, slots.Look(r.VM, "a"))
	}
	if done, err := install("3", 5<<20); err != nil || done.Slot != "a" {
		t.Errorf("room only without the older version: %+v, %v", done, err)
	}
}

// TestBusy: a second installation waits for the first.
func TestBusy(t *testing.T) {
	r := newReceiver(t, t.TempDir())
	first, err := r.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		again, err := r.lock(t.Context())
		if err == nil {
			again.Release()
		}
		ended <- err
	}()
	first.Release()
	if err := <-ended; err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// FuzzServe: the phone answers or closes any connection. The current version stays.
func FuzzServe(f *testing.F) {
	var said bytes.Buffer
	c := pushapi.NewConn(nil, &said)
	dir := artifacttest.Make(f, "sql", "1", []byte("kernel"), []byte("rootfs"))
	a, err := installed.Load(dir)
	if err != nil {
		f.Fatal(err)
	}
	c.Open()
	c.SendOffer(pushapi.Offer{Manifest: a.Texts[0], Spec: a.Texts[1], Data: []int64{6, 6}})
	f.Add(append(bytes.Clone(said.Bytes()), "e\x00\x00\x00\x00"...))
	f.Add([]byte(pushapi.Magic))
	r := newReceiver(f, f.TempDir())
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		failure := r.Serve(t.Context(), bytes.NewReader(b), io.Discard)
		slot, err := slots.Current(r.VM)
		if failure != nil && errors.Is(err, slots.ErrNone) {
			return
		}
		if err != nil || slots.Look(r.VM, slot).Digest != a.Digest {
			t.Errorf("it took something else: slot %q, %v", slot, err)
		}
	})
}
