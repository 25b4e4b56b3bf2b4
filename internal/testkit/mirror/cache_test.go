package mirror

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newCache(t *testing.T) cache {
	t.Helper()
	c, err := openCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func noLog(string, ...any) {}

// TestCreateIsAllOrNothing checks folders whose creation fails or is interrupted.
func TestCreateIsAllOrNothing(t *testing.T) {
	c := newCache(t)
	final := c.path("debs", "arm64")
	failure := errors.New("disk full")
	err := c.create(final, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v, want %v", err, failure)
	}
	if _, err := os.Stat(final); !os.IsNotExist(err) {
		t.Errorf("a half-filled folder has its final name (%v)", err)
	}
	// A killed process leaves this.
	if err := os.MkdirAll(c.path("tmp", "arm64-123", "partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.clean(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(c.path("tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in tmp: %v (%v)", left, err)
	}
	for _, content := range []string{"first", "second"} {
		err := c.create(final, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, content), nil, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(final, "*")); len(names) != 1 || filepath.Base(names[0]) != "second" {
		t.Errorf("the folder holds %v, want what was created last", names)
	}
}

func TestLockWaits(t *testing.T) {
	c := newCache(t)
	unlock, err := c.lock(t.Context(), noLog)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.lock(ctx, func(string, ...any) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v while another holds the lock, want one that wraps the context's", err)
	}
	again, err := c.lock(t.Context(), func(string, ...any) { unlock() })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestKeyStays(t *testing.T) {
	c := newCache(t)
	first, file, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != second.Name || !first.Public().Equal(second.Public()) {
		t.Errorf("keys %s and %s, want one", first.Name, second.Name)
	}
	if filepath.Base(file) != first.Name {
		t.Errorf("public key in %s, want a file named %s", file, first.Name)
	}
	info, err := os.Stat(c.path("key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v; want mode 0600", info.Mode(), err)
	}
	if err := os.WriteFile(c.path("key.pem"), []byte("spoiled"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.key(); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}

func TestListenRefusesOtherComputers(t *testing.T) {
	if l, err := listen(t.Context(), "0.0.0.0:0"); err == nil {
		l.Close()
		t.Error("listening on all addresses")
	}
}

// TestNoListenerBeforeContents checks that connections are refused, and do not wait, before the
// contents are ready.
func TestNoListenerBeforeContents(t *testing.T) {
	c := newCache(t)
	unlock, err := c.lock(t.Context(), noLog)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	free, err := listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	waits := writerFunc(func(text []byte) { // called when Start waits for the lock
		if peer, err := net.Dial("tcp", address); err == nil {
			peer.Close()
			t.Error("it listens before it can answer")
		}
		cancel()
	})
	if _, err := Start(ctx, Options{Dir: c.dir, Listen: address, Log: waits}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

type writerFunc func(text []byte)

func (f writerFunc) Write(text []byte) (int, error) {
	f(text)
	return len(text), nil
}

func TestStartRefusesUnknownArchitecture(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Arches: []string{"riscv64"}})
	if err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("error %v, want one about riscv64", err)
	}
}

// TestNoApt checks the advice on a computer without apt.
func TestNoApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Arches: []string{"amd64"}})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "run this on Debian") {
		t.Errorf("error %v, want ErrUnavailable and what to do", err)
	}
}
