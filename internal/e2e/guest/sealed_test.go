package guest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestSealedRoot flips a bit of the root file system, first in a block that is read after boot,
// then in one that is read at boot. Each time the guest's kernel panics and no program reads
// changed bytes.
func TestSealedRoot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "artifact")
	guesttest.CopySparse(t, sovtest.Artifact(t, "amd64"), dir)
	path := filepath.Join(dir, "rootfs.img")
	panics := func(g *guesttest.Guest) {
		t.Helper()
		select {
		case <-g.Done():
		case <-time.After(sovtest.WaitLimit):
			t.Fatalf("the machine goes on\n%s", g.Log(t))
		}
		for _, want := range []string{"is corrupted", "Kernel panic - not syncing: dm-verity device corrupted"} {
			if log := g.Log(t); !strings.Contains(log, want) {
				t.Errorf("the console does not say %q:\n%s", want, log)
			}
		}
	}
	later, at := readLater(t, path)
	artifacttest.Flip(t, path, at)
	g := guesttest.Boot(t, localvm.Options{Artifact: dir, State: t.TempDir()})
	if mounts := strings.Join(g.Shell(t, "cat /sys/block/dm-0/dm/name; cat /sys/block/dm-0/ro"), " "); mounts != "root 1" {
		t.Errorf("the root file system is on %q", mounts)
	}
	conn, err := g.Client().Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	exit, err := session.Run(t.Context(), session.NewConn(conn, conn, conn.Close), session.Start{Command: []string{"cat", later}, Caller: "test"},
		session.Streams{In: strings.NewReader(""), Out: &out, Errors: &out})
	if err == nil || out.Len() > 0 {
		t.Errorf("cat %s: status %d, %v, %q", later, exit.Status, err, out.String())
	}
	panics(g)
	g.CutPower(t)

	artifacttest.Flip(t, path, 1024+0x78) // the label in the superblock, which the kernel reads to mount
	panics(guesttest.PowerOn(t, localvm.Options{Artifact: dir, State: t.TempDir()}))
}

// readLater returns a file that is not read at boot, and the offset of its content in the image. It
// is the list of PostgreSQL's error codes, which only authors of extensions use.
func readLater(t *testing.T, image string) (name string, at int64) {
	t.Helper()
	file, err := ext4.OpenFile(image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = fs.WalkDir(file, "usr/share", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "errcodes.txt" {
			name = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := file.ReadFile(name)
	if err != nil || len(content) < 4096 {
		t.Fatalf("%s has %d bytes: %v", name, len(content), err)
	}
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	at = int64(bytes.Index(whole, content[:4096]))
	if at < 0 || at%4096 != 0 || bytes.Count(whole, content[:4096]) != 1 {
		t.Fatalf("%s is found at %d in the image", name, at)
	}
	return "/" + name, at
}
