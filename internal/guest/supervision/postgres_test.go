//go:build linux

package supervision

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A conversation is a connection whose peer sends answer regardless of its input.
type conversation struct {
	asked  bytes.Buffer
	answer io.Reader
}

func (c *conversation) Write(p []byte) (int, error) { return c.asked.Write(p) }
func (c *conversation) Read(p []byte) (int, error)  { return c.answer.Read(p) }

func TestAskPostgres(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		ready        bool
	}{
		{"asks for a password", "R\x00\x00\x00\x08\x00\x00\x00\x0a", true},
		{"lets the user in", "R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x08a\x00b\x00", true},
		{"knows no such user", "E\x00\x00\x00\x11SFATAL\x00C28000\x00\x00"[:18], true},
		{"starts", "E\x00\x00\x00\x14SFATAL\x00C57P03\x00\x00", false},
		{"closes", "", false},
		{"is something else", "HTTP/1.1 400 Bad Request\r\n\r\n", false},
		{"error of no length", "E\x00\x00\x00\x00", false},
		{"error of huge length", "E\x7f\xff\xff\xff", false},
		{"error cut short", "E\x00\x00\x00\x14SFA", false},
	} {
		c := &conversation{answer: bytes.NewReader([]byte(tt.answer))}
		if err := askPostgres(c); (err == nil) != tt.ready {
			t.Errorf("a server that %s: %v", tt.name, err)
		}
		startup, goodbye := bytes.CutSuffix(c.asked.Bytes(), []byte("X\x00\x00\x00\x04"))
		if n := binary.BigEndian.Uint32(startup); int(n) != len(startup) {
			t.Errorf("the startup message says %d bytes and has %d", n, len(startup))
		}
		if goodbye != (tt.name == "lets the user in") {
			t.Errorf("a server that %s: goodbye was said: %t", tt.name, goodbye)
		}
	}
}

func TestReadPostmaster(t *testing.T) {
	const running = "17\n/data\n1700000000\n5432\n/run\n*\n  123 4\n"
	for _, tt := range []struct {
		name, pid string
		ready     bool
	}{
		{"ready", running + "ready   \n", true},
		{"starting", running + "starting\n", false},
		{"stopping", running + "stopping\n", false},
		{"not so far yet", "17\n/data\n", false},
		{"empty", "", false},
	} {
		dir := t.TempDir()
		socket := filepath.Join(dir, ".s.PGSQL.5432")
		must(t, os.WriteFile(socket+".lock", []byte("17\n"+dir+"\n1700000000\n5432\n"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(tt.pid), 0o600))
		if err := readPostmaster(socket); (err == nil) != tt.ready {
			t.Errorf("a server that is %s: %v", tt.name, err)
		}
	}
}

// TestStartingServerIsNotProbed: the probe does not connect to a starting server, which would log
// the refusal.
func TestStartingServerIsNotProbed(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, ".s.PGSQL.5432")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	must(t, err)
	defer l.Close()
	must(t, os.WriteFile(socket+".lock", []byte("17\n"+dir+"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte("17\n\n\n\n\n\n\nstarting\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := (&service{}).probeOnce(ctx, guestspec.Ready{Postgres: socket}); err == nil {
		t.Error("it passes for ready")
	}
	must(t, l.SetDeadline(time.Now().Add(time.Millisecond)))
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("it was asked")
	}
}

func TestReadPostmasterOfOthers(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, ".s.PGSQL.6432")
	if err := readPostmaster(socket); err != nil {
		t.Errorf("a socket without a lock file is to be asked: %v", err)
	}
	must(t, os.WriteFile(socket+".lock", []byte("17\n"), 0o600))
	if err := readPostmaster(socket); err == nil {
		t.Error("a lock file without a data directory passes")
	}
	must(t, os.WriteFile(socket+".lock", []byte("17\n"+dir+"\n"), 0o600))
	if err := readPostmaster(socket); err == nil {
		t.Error("a server without a postmaster.pid passes")
	}
	must(t, unix.Mkfifo(filepath.Join(dir, "postmaster.pid"), 0o600))
	if err := readPostmaster(socket); err == nil {
		t.Error("a FIFO passes for a lock file")
	}
}

func FuzzAskPostgres(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08"))
	f.Add([]byte("E\x00\x00\x00\x14SFATAL\x00C57P03\x00\x00"))
	f.Fuzz(func(_ *testing.T, answer []byte) {
		_ = askPostgres(&conversation{answer: bytes.NewReader(answer)})
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
