package durable

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the timeout of every wait of these tests.
const patience = 20 * time.Second

// helpers are the functions that the test binary runs as a separate process, by name.
var helpers = map[string]func(path string){
	"lock": func(path string) {
		if _, err := TryLock(path, Exclusive, LockOptions{NotePID: true}); err != nil {
			fmt.Println(err)
			return
		}
		holdUntilClosed()
	},
	"transient": func(path string) {
		l, err := TryLock(path, Exclusive, LockOptions{Transient: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		holdUntilClosed()
		l.Release()
	},
	"shared": func(path string) {
		if _, err := TryLock(path, Shared, LockOptions{Existing: true}); err != nil {
			fmt.Println(err)
			return
		}
		holdUntilClosed()
	},
	"process": func(path string) {
		if _, err := TryProcessLock(path); err != nil {
			fmt.Println(err)
			return
		}
		holdUntilClosed()
	},
	"write": func(path string) {
		if _, err := Create(path, 0o600); err != nil {
			fmt.Println(err)
			return
		}
		holdUntilClosed()
	},
}

func holdUntilClosed() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

func TestMain(m *testing.M) {
	name, path, _ := strings.Cut(os.Getenv("DURABLE_HELPER"), " ")
	if step, ok := strings.CutPrefix(name, "die-"); ok {
		die := func(f *File) {
			f.step = func(at string) {
				if at == step {
					unix.Kill(os.Getpid(), unix.SIGKILL)
					select {}
				}
			}
		}
		fmt.Println(WriteFile(path, []byte(newText), 0o644, die))
		return
	}
	if run := helpers[name]; run != nil {
		run(path)
		return
	}
	os.Exit(m.Run())
}

// A helper is a separate process of this test binary.
type helper struct {
	*exec.Cmd
	stdin io.Closer
}

// start starts a helper and waits until it is ready.
func start(t *testing.T, name, path string) *helper {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	h := &helper{Cmd: exec.CommandContext(ctx, os.Args[0])}
	h.Env = append(os.Environ(), "DURABLE_HELPER="+name+" "+path)
	h.Stderr = os.Stderr
	stdin, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.stdin = stdin
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.stop(); cancel() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the helper %s says %q, %v", name, line, err)
	}
	return h
}

// stop lets the helper end normally.
func (h *helper) stop() {
	h.stdin.Close()
	h.Wait()
}

// kill kills the helper.
func (h *helper) kill() {
	h.Process.Kill()
	h.Wait()
}
