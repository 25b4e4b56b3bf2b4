package confine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func folder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func available(t *testing.T) {
	t.Helper()
	if err := Check(t.Context()); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestConfined runs a shell that tries what a hostile Makefile would. The secret and the server are
// on this computer, so that every attempt succeeds without confinement.
func TestConfined(t *testing.T) {
	available(t)
	out, in := folder(t, "out"), folder(t, "in")
	secret := filepath.Join(t.TempDir(), "secret")
	for _, f := range []string{secret, filepath.Join(in, "source")} {
		if err := os.WriteFile(f, []byte("c4n4ry"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOV_TEST_SECRET", "c4n4ry")
	for name, tc := range map[string]struct {
		script string
		works  bool
	}{
		"reads an input":             {"cat " + in + "/source", true},
		"writes its output":          {"echo x >" + out + "/x && cat " + out + "/x", true},
		"uses /tmp":                  {"echo x >/tmp/x && cat /tmp/x", true},
		"has /dev/null":              {"echo x >/dev/null; head -c 4 /dev/urandom >/dev/null", true},
		"is nobody":                  {"test $(id -u) = 65534 && test $(id -g) = 65534", true},
		"runs the system's programs": {"ls /usr/bin >/dev/null && /bin/true", true},
		"reads a secret":             {"cat " + secret, false},
		"reads /etc/shadow":          {"cat /etc/shadow", false},
		"reads a home":               {"ls " + os.Getenv("HOME") + "/.", false},
		"writes an input":            {"echo x >" + in + "/source", false},
		"removes an input":           {"rm " + in + "/source", false},
		"writes the system":          {"echo x >/usr/bin/x", false},
		"writes a root":              {"echo x >/x", false},
		"opens the network":          {"bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + port + "'", false},
		"has an interface":           {"grep -q eth /proc/net/dev", false},
		"sees other processes":       {fmt.Sprintf("test -d /proc/%d", os.Getpid()), false},
		"kills its parents":          {fmt.Sprintf("kill -0 %d", os.Getppid()), false},
		"reads sov's environment":    {"env | grep c4n4ry", false},
		"has an open file of sov's":  {"ls /proc/self/fd | grep -v '^[0-3]$'", false},
		"can gain privileges":        {"grep -q 'NoNewPrivs:.0' /proc/self/status", false},
		"has capabilities":           {"grep Cap[EP][fr] /proc/self/status | grep -v 0000000000000000", false},
		"mounts":                     {"mount -t tmpfs none /tmp", false},
		"makes a device":             {"mknod /tmp/sda b 8 0", false},
		"becomes root by set-uid":    {"su -c true || sudo -n true", false},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			err := Command{Path: "/bin/sh", Args: []string{"-c", tc.script}, Env: []string{"PATH=/usr/bin:/bin:/usr/sbin"}, Dir: out,
				Stdout: &said, Stderr: &said, Write: []string{out}, Read: []string{in}, Temporary: folder(t, "tmp777")}.Run(t.Context())
			exit := new(exec.ExitError)
			if tc.works && err != nil || !tc.works && !errors.As(err, &exit) {
				t.Errorf("%s: %v\n%s", tc.script, err, &said)
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(in, "source")); err != nil || string(b) != "c4n4ry" {
		t.Errorf("the input is %q, %v", b, err)
	}
}

// TestCancel verifies that cancelling kills the program and its background processes.
func TestCancel(t *testing.T) {
	available(t)
	out := folder(t, "out")
	fifo := filepath.Join(out, "alive")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o666), os.Chmod(fifo, 0o666)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		f, err := os.Open(fifo) // waits for a writer
		if err == nil {
			_, err = io.ReadFull(f, make([]byte, len("up\n")))
			cancel()
			io.Copy(io.Discard, f) // until the last writer closes it
			f.Close()
		}
		ended <- err
	}()
	err := Command{Path: "/bin/sh", Args: []string{"-c", "setsid sh -c 'exec 3>alive; echo up >&3; sleep 1000' & wait"}, Env: []string{"PATH=/usr/bin:/bin"},
		Dir: out, Write: []string{out}}.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a process goes on after the end")
	}
}

// TestOutput verifies that links and pipes in an output folder are rejected or replaced.
func TestOutput(t *testing.T) {
	dir, outside := folder(t, "out"), filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte("c4n4ry"), 0o600), os.WriteFile(filepath.Join(dir, "file"), []byte("good"), 0o600),
		os.Symlink(outside, filepath.Join(dir, "link")), os.Symlink("file", filepath.Join(dir, "inside")),
		os.Symlink(filepath.Dir(outside), filepath.Join(dir, "way")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"file": "good", "inside": "good", "link": "", "way/outside": "", "pipe": "", "../outside": "", "missing": ""} {
		if b, err := ReadOutput(dir, name, 4); string(b) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := ReadOutput(dir, "file", 3); err == nil {
		t.Error("a file that is too large is read")
	}
	for _, name := range []string{"link", "file", "new"} {
		if err := WriteInput(dir, name, []byte("input")); err != nil {
			t.Error(err)
		}
		if b, err := ReadOutput(dir, name, 5); string(b) != "input" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := WriteInput(dir, "way/new", nil); err == nil {
		t.Error("written through a link")
	}
	if b, err := os.ReadFile(outside); string(b) != "c4n4ry" {
		t.Errorf("outside is %q, %v", b, err)
	}
}

func TestExitStatus(t *testing.T) {
	available(t)
	for script, want := range map[string]int{"exit 7": 7, "kill -9 $$": 137} {
		err := Command{Path: "/bin/sh", Args: []string{"-c", script}, Dir: "/"}.Run(t.Context())
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != want {
			t.Errorf("%s: %v", script, err)
		}
	}
	if err := (Command{Path: "/nonexistent", Dir: "/"}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
}

// TestAsUser runs these tests as an unprivileged user.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("runs as a user already")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join("/tmp", fmt.Sprintf("sov-confine-test-%d", os.Getpid()))
	b, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(copied, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(copied)
	home := folder(t, "home")
	if err := os.Chown(home, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, "-test.v", "-test.run", "^(TestConfined|TestCancel|TestExitStatus)$", "-test.timeout", "60s")
	cmd.Dir, cmd.Env = "/", []string{"HOME=/var", "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("SKIP")) {
		t.Skipf("this system does not let users confine programs:\n%s", out)
	}
}
