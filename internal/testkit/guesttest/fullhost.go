package guesttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// FullHostDisk fills the disk of this computer that holds a machine's data, while the machine
// writes to it. The machine must pause with a notice, and continue when space is available. A
// shutdown of the paused machine must not block. Every synced file must exist in the end.
func FullHostDisk(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a file system of the test's own needs root")
	}
	state := t.TempDir()
	if err := unix.Mount("sov-test", state, "tmpfs", 0, "size=192m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(state, unix.MNT_DETACH) })
	notices := make(chan string, 100)
	options := localvm.Options{Artifact: BuildWriter(t), State: state, Notice: func(text string) { notices <- text }}
	g := Boot(t, options)
	g.awaitSynced(t, 5)

	const full, room = "the machine is paused until there is room", "there is space again: the machine continues"
	ballast := filepath.Join(state, "ballast")
	fillUp(t, state, ballast)
	wantNotice(t, notices, "the disk that holds "+state+" is full: "+full)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	wantNotice(t, notices, room)
	g.awaitSynced(t, len(g.synced(t))+20)
	if log := g.Log(t); strings.Contains(log, "I/O error") || strings.Contains(log, "No space left") {
		t.Errorf("the guest was told:\n%s", log)
	}

	fillUp(t, state, ballast)
	wantNotice(t, notices, "the disk that holds "+state+" is full: "+full)
	began := time.Now()
	err := g.Shutdown(t.Context(), 10*time.Minute)
	if err == nil || !strings.Contains(err.Error(), "is full, so it was switched off") || time.Since(began) > 9*time.Minute {
		t.Errorf("shut down after %v: %v", time.Since(began), err)
	}
	g.CutPower(t) // releases the data
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(state, "data.img")
	Fsck(t, image)
	Replay(t, image)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fs, err := ext4.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, fs, g.synced(t))
}

// fillUp writes a file that leaves only 512 KiB in a folder's file system.
func fillUp(t *testing.T, dir, path string) {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const left = 512 << 10
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*s.Bsize-left); err != nil {
		t.Fatal(err)
	}
}

func wantNotice(t *testing.T, notices <-chan string, want string) {
	t.Helper()
	select {
	case got := <-notices:
		if got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	case <-time.After(sovtest.WaitLimit):
		t.Fatalf("there is no notice %q", want)
	}
}
