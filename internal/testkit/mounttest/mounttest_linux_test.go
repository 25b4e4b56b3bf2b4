package mounttest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestOtherNamespace unmounts an image while a mount namespace exists that was created when the
// image was mounted. Its file system is written completely, and the image can be mounted again.
func TestOtherNamespace(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", image, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	dir, unmount := Loop(t, image, "")
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; read -r _")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		other.Wait()
	})
	out.Read(make([]byte, 1)) // it has its namespace
	unmount()
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	dir, _ = Loop(t, image, "ro")
	entries := 0
	if err := filepath.WalkDir(dir, func(string, os.DirEntry, error) error { entries++; return nil }); err != nil || entries != 3 {
		t.Errorf("%d entries, %v; want the root, lost+found and file", entries, err)
	}
	if out, err := exec.Command("wc", "-c", filepath.Join(dir, "file")).CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("1048576 ")) {
		t.Errorf("another process reads %s, %v", out, err)
	}
}

// TestSecondDevice mounts an image again whose first device is still mounted for a moment.
func TestSecondDevice(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", image, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	device, _ := Attach(t, image, false)
	_, unmount := Device(t, device, "")
	var ended atomic.Bool
	time.AfterFunc(100*time.Millisecond, func() {
		ended.Store(true)
		unmount()
	})
	Loop(t, image, "")
	if !ended.Load() {
		t.Error("the image is mounted twice")
	}
}
