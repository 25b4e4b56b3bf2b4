package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestFullHostDisk fills the disk of this computer that holds a machine's data while the machine writes to it: the machine is
// paused, says so, and goes on when there is room, with every row. One that is shut down meanwhile does not make its caller wait.
func TestFullHostDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a file system of the test's own needs root")
	}
	state := t.TempDir()
	if err := unix.Mount("sov-test", state, "tmpfs", 0, "size=768m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(state, unix.MNT_DETACH) })
	guesttest.CopySparse(t, guesttest.Seed(t, "arm64")+"/.", state)
	notices := make(chan string, 100)
	options := localvm.Options{Artifact: sovtest.Artifact(t, "arm64"), State: state, Notice: func(text string) { notices <- text }}
	g := guesttest.Boot(t, options)
	g.Ask(t, "create table kept (n int, filler text)")

	ballast := filepath.Join(state, "ballast")
	fillUp(t, state, ballast)
	const enough = 20
	written := writeParts(t, g, 1, enough)
	wantNotice(t, notices, "the disk that holds "+state+" is full: the machine is paused until there is room")
	select {
	case n := <-written:
		t.Fatalf("%d parts were written to a full disk", n)
	default:
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	wantNotice(t, notices, "there is room again: the machine goes on")
	if n := <-written; n != enough {
		t.Fatalf("%d of %d parts were written", n, enough)
	}
	wantRows(t, g, enough)
	if log := g.Log(t); strings.Contains(log, "I/O error") || strings.Contains(log, "No space left") {
		t.Errorf("the guest was told:\n%s", log)
	}

	fillUp(t, state, ballast)
	written = writeParts(t, g, enough+1, 1000)
	wantNotice(t, notices, "the disk that holds "+state+" is full: the machine is paused until there is room")
	began := time.Now()
	err := g.Shutdown(t.Context(), 2*time.Minute)
	if err == nil || !strings.Contains(err.Error(), "is full, so it was switched off") || time.Since(began) > time.Minute {
		t.Errorf("shut down after %v: %v", time.Since(began), err)
	}
	parts := enough + <-written
	g.CutPower(t) // gives the data free
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	g = guesttest.Boot(t, options)
	wantRows(t, g, parts)
	g.Stop(t)
}

// rowsInPart is how many rows are written at once, of which a page holds four: with some 4 MB.
const rowsInPart = 2000

// writeParts writes parts of rows, each in a transaction, until one fails, and sends how many were acknowledged.
func writeParts(t *testing.T, g *guesttest.Guest, from, parts int) <-chan int {
	t.Helper()
	conn := g.Connect(t)
	written := make(chan int, 1)
	go func() {
		done := 0
		for ; done < parts; done++ {
			// Too short to be compressed.
			sql := fmt.Sprintf("insert into kept select %d, repeat('x', 1900) from generate_series(1, %d)", from+done, rowsInPart)
			if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
				break
			}
		}
		written <- done
	}()
	return written
}

// wantRows wants all rows of the first parts, and at most one part more, whose acknowledgement was lost.
func wantRows(t *testing.T, g *guesttest.Guest, parts int) {
	t.Helper()
	broken := g.One(t, fmt.Sprintf("select count(*) from (select n from kept group by n having count(*) <> %d) x", rowsInPart))
	if got := g.One(t, "select count(distinct n) from kept"); broken != "0" || got != fmt.Sprint(parts) && got != fmt.Sprint(parts+1) {
		t.Errorf("%s parts, %s of them broken; want %d", got, broken, parts)
	}
}

// fillUp leaves so little room in a folder's file system that no write of a machine's fits.
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
	const left = 2 << 20
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
		t.Fatalf("nobody says %q", want)
	}
}
