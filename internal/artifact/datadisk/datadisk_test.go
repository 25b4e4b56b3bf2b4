package datadisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// sizes cover one block group and many, sizes that are not whole groups or MiB, and more than one
// block of group descriptors.
var sizes = []int64{MinSize, 511<<20 + 12345, 4 << 30, 33<<30 + 1<<20, 64 << 30, MaxSize}

func TestCreate(t *testing.T) {
	e2fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Skip("e2fsck is not installed")
	}
	for _, size := range sizes {
		t.Run(fmt.Sprintf("%d MiB", size>>20), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "data.img")
			if err := Create(context.Background(), name, size); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if want := size / sizeUnit * sizeUnit; info.Size() != want {
				t.Errorf("the file has %d bytes, want %d", info.Size(), want)
			}
			if info.Mode() != 0o600 {
				t.Errorf("mode %v, want 0600", info.Mode())
			}
			// Group descriptors, their copies and the reserved ones are nearly all of the written
			// bytes.
			allocated := info.Sys().(*syscall.Stat_t).Blocks * 512
			if limit := 2<<20 + size>>15; size < MaxSize && allocated > limit || allocated > 16<<20 {
				t.Errorf("the new file takes %d bytes, want at most %d", allocated, limit)
			}
			out, err := exec.Command(e2fsck, "-fn", name).CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("? no")) {
				t.Errorf("e2fsck -fn: %v\n%s", err, out)
			}
		})
	}
}

func TestKernelMountsAndWrites(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "data.img")
	if err := Create(context.Background(), name, 600<<20); err != nil {
		t.Fatal(err)
	}
	content := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprint(i, "\n")), 20_000) }
	mnt, umount := mounttest.Loop(t, name, "")
	for i := range 2000 { // enough names for an indexed directory, enough bytes for several groups
		b := content(i)
		if i%20 != 0 {
			b = b[:100]
		}
		if err := os.WriteFile(filepath.Join(mnt, fmt.Sprintf("a-rather-long-file-name-%d", i)), b, 0o600); err != nil {
			umount()
			t.Fatal(err)
		}
	}
	umount()
	if out, err := exec.Command("e2fsck", "-fn", name).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn after use: %v\n%s", err, out)
	}
	mnt, umount = mounttest.Loop(t, name, "")
	defer umount()
	for i := 0; i < 2000; i += 20 {
		got, err := os.ReadFile(filepath.Join(mnt, fmt.Sprintf("a-rather-long-file-name-%d", i)))
		if err != nil || !bytes.Equal(got, content(i)) {
			t.Fatalf("file %d comes back as %d bytes, %v", i, len(got), err)
		}
	}
}

func TestCreateNeverReplaces(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data.img")
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(context.Background(), name, MinSize); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a file: %v, want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(name); string(got) != "precious" {
		t.Errorf("the file is now %d bytes", len(got))
	}
	wantOnly(t, name)
}

func TestCreateAtOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data.img")
	var g errgroup.Group
	made := make(chan bool, 8)
	for range cap(made) {
		g.Go(func() error {
			err := Create(context.Background(), name, MinSize)
			made <- err == nil
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	close(made)
	n := 0
	for ok := range made {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of 8 at once say that they made the disk, want 1", n)
	}
	wantOnly(t, name)
}

func TestCreateRefuses(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name, want string
		ctx        context.Context
		size       int64
	}{
		{"small", "128 MiB", context.Background(), MinSize - 1},
		{"large", "1 TiB", context.Background(), MaxSize + sizeUnit},
		{"negative", "128 MiB", context.Background(), -1},
		{"cancelled", "context canceled", cancelled, MinSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "data.img")
			err := Create(tt.ctx, name, tt.size)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), name) {
				t.Errorf("Create: %v, want an error with %q and the name", err, tt.want)
			}
			if left, _ := os.ReadDir(filepath.Dir(name)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCreateOnFullDisk(t *testing.T) {
	dir := mounttest.Tmpfs(t, "8k")
	if err := Create(context.Background(), filepath.Join(dir, "data.img"), MinSize); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Create on a full disk: %v, want ENOSPC", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// wantOnly fails the test unless name is the only entry of its directory.
func wantOnly(t *testing.T, name string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(name) {
		t.Errorf("directory holds %v, %v; want only %s", entries, err, filepath.Base(name))
	}
}
