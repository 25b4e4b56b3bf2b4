package device_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// here returns this computer as a phone.
func here(t *testing.T) device.Phone {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: runs commands as root")
	}
	return device.Local(phonepath.Root(t.TempDir()), nil)
}

func TestRunPassesBytesAndStatus(t *testing.T) {
	p := here(t)
	content := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(content)
	var out, said bytes.Buffer
	err := p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", `cat; printf 'a\000b' >&2; exit 7`}, Stdin: bytes.NewReader(content), Stdout: &out, Stderr: &said})
	var exit *device.ExitError
	if !errors.As(err, &exit) || exit.Status != 7 || exit.Stderr != "a\x00b" {
		t.Errorf("error is %v, want exit status 7", err)
	}
	if !bytes.Equal(out.Bytes(), content) {
		t.Errorf("%d bytes came back changed, as %d", len(content), out.Len())
	}
	if said.String() != "a\x00b" {
		t.Errorf("standard error is %q", said.String())
	}
}

// TestRunPassesEachByte converses with a command whose answers end with the beginning of the mark
// that follows other commands' output.
func TestRunPassesEachByte(t *testing.T) {
	p := here(t)
	in, toCommand := io.Pipe()
	answers := make(chan string)
	ran := make(chan error, 1)
	go func() {
		ran <- p.Run(t.Context(), device.Command{
			Args:  []string{"sh", "-c", `while read -r line; do printf "$line"; done; printf sov-end-; exit 3`},
			Stdin: in, Stdout: writer(func(p []byte) (int, error) { answers <- string(p); return len(p), nil }), Live: true,
		})
		close(answers)
	}()
	for _, want := range []string{"s", "yes", "sov-end-"} {
		fmt.Fprintln(toCommand, want)
		for got := ""; got != want; {
			select {
			case answer := <-answers:
				got += answer
			case <-time.After(time.Minute):
				t.Fatalf("got %q of the answer %q", got, want)
			}
		}
	}
	toCommand.Close()
	last := ""
	for answer := range answers {
		last += answer
	}
	var exit *device.ExitError
	if err := <-ran; last != "sov-end-" || !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("at the end %q, %v", last, err)
	}
}

func TestRunPassesArguments(t *testing.T) {
	p := here(t)
	want := []string{"", " ", "a b", "$HOME", "`id`", "'", `"`, `\`, "a\nb", "*", "ü", "-n", "%s", "!x", "#", "~", "a=b", "'\\''", "\xff\xfe"}
	out, err := device.Output(t.Context(), p, append([]string{"sh", "-c", `for a; do printf '%s\000' "$a"; done`, "sh"}, want...)...)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("arguments are %q, want %q", got, want)
	}
	for _, args := range [][]string{nil, {""}, {"echo", "a\x00b"}} {
		if err := p.Run(t.Context(), device.Command{Args: args}); err == nil {
			t.Errorf("%q runs", args)
		}
	}
}

// TestRunDoesNotWaitForDaemons: Run ends with its command, even if a daemon that the command
// started keeps its pipes open.
func TestRunDoesNotWaitForDaemons(t *testing.T) {
	p := here(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	start := time.Now()
	out, err := device.Output(t.Context(), p, "sh", "-c", `echo started; setsid sleep 600 & echo $! >"$1"`, "sh", pidFile)
	pid, readErr := os.ReadFile(pidFile)
	if readErr != nil {
		t.Fatal(readErr)
	}
	defer exec.Command("kill", strings.TrimSpace(string(pid))).Run()
	if err != nil || string(out) != "started\n" {
		t.Errorf("%q, %v", out, err)
	}
	if took := time.Since(start); took > 5*time.Minute { // the daemon runs for ten
		t.Errorf("it took %v", took)
	}
	if err := exec.Command("kill", "-0", strings.TrimSpace(string(pid))).Run(); err != nil {
		t.Error("the daemon has been killed")
	}
}

func TestRunIsBounded(t *testing.T) {
	p := here(t)
	var timeout *device.TimeoutError
	err := p.Run(t.Context(), device.Command{Args: []string{"sleep", "600"}, Limit: 100 * time.Millisecond})
	if !errors.As(err, &timeout) || timeout.Idle {
		t.Errorf("a limit: %v", err)
	}
	err = p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", "echo; sleep 600"}, Limit: device.NoLimit, Idle: 200 * time.Millisecond})
	if !errors.As(err, &timeout) || !timeout.Idle {
		t.Errorf("a silence: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = p.Run(ctx, device.Command{Args: []string{"sh", "-c", "echo; sleep 600"}, Stdout: writer(func(p []byte) (int, error) { cancel(); return len(p), nil })})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
}

// TestRunWaitsForItsReader: the last output of a command is not lost if its reader is slow, such as
// a pager. A reader that never ends does not block a caller whose context ends.
func TestRunWaitsForItsReader(t *testing.T) {
	p := here(t)
	const size = 100_000 // more than one read, but less than one read plus a full pipe
	got := 0
	slow := writer(func(p []byte) (int, error) {
		if got == 0 {
			<-time.After(3 * time.Second) // longer than Idle, the wait for output that is not read
		}
		got += len(p)
		return len(p), nil
	})
	script := []string{"sh", "-c", "head -c " + strconv.Itoa(size) + " /dev/zero; exit 3"}
	var exit *device.ExitError
	err := p.Run(t.Context(), device.Command{Args: script, Stdout: slow, Limit: device.NoLimit, Idle: 500 * time.Millisecond})
	if !errors.As(err, &exit) || exit.Status != 3 || got != size {
		t.Errorf("%d bytes of %d, %v", got, size, err)
	}
	stuck := make(chan struct{})
	defer close(stuck)
	ctx, cancel := context.WithCancel(t.Context())
	err = p.Run(ctx, device.Command{Args: script, Stdout: writer(func(p []byte) (int, error) { cancel(); <-stuck; return len(p), nil })})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that is stuck: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestRunReportsStreamErrors(t *testing.T) {
	p := here(t)
	full := errors.New("disk full")
	err := p.Run(t.Context(), device.Command{Args: []string{"yes"}, Stdout: writer(func([]byte) (int, error) { return 0, full })})
	if !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	torn := errors.New("torn")
	err = p.Run(t.Context(), device.Command{Args: []string{"cat"}, Stdin: io.MultiReader(strings.NewReader("a part"), reader(func([]byte) (int, error) { return 0, torn }))})
	if !errors.Is(err, torn) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := device.Output(t.Context(), p, "yes"); err == nil {
		t.Error("endless output is taken")
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestRunReportsLostConnections: a client that ends before its command is a lost connection,
// whatever its exit status.
func TestRunReportsLostConnections(t *testing.T) {
	p := here(t)
	var lost *device.LostError
	err := p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", `echo oops >&2; kill -9 $PPID; sleep 20`}})
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "oops") {
		t.Errorf("%v", err)
	}
}

func TestWriteFile(t *testing.T) {
	p := here(t)
	name := filepath.Join(t.TempDir(), "it's a file")
	if err := device.WriteFile(t.Context(), p, name, 0o640, strings.NewReader("old\x00"), 4); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := device.WriteFile(t.Context(), p, name, 0o600, strings.NewReader("half"), 8); err == nil {
		t.Error("a part of a file is taken for the whole")
	}
	if text, err := device.ReadFile(t.Context(), p, name); err != nil || string(text) != "old\x00" {
		t.Errorf("%q, %v", text, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(name)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := device.WriteFile(t.Context(), p, "relative", 0o600, strings.NewReader(""), 0); err == nil {
		t.Error("a relative path is taken")
	}
}
