package mounttest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"os"
)

// TestOtherNamespace unmounts an image of which another mount namespace has a copy: the image is
// written completely only when that is gone.
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
	out.Read(make([]byte, 1)) // it has its namespace
	held := 200 * time.Millisecond
	time.AfterFunc(held, func() { in.Close() })
	start := time.Now()
	unmount()
	if took := time.Since(start); took < held {
		t.Errorf("the image was unmounted after %v, while another namespace had it", took)
	}
	other.Wait()
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
