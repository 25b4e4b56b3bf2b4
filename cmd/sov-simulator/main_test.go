//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
)

// TestOptions verifies that an error for an invalid flag names the valid values.
func TestOptions(t *testing.T) {
	for _, tt := range []struct{ args, says string }{
		{"--release 12", `release "12": must be one of [13 14 14Q2 14Q3 15 15Q1 15Q2]`},
		{"--root supersu", `root manager "supersu": must be one of magisk, kernelsu, apatch, aosp, shell, denied, none`},
		{"--hypervisor xen", `hypervisor "xen": must be kvm, gunyah, geniezone or none`},
		{"--system mine", `system "mine": must be AOSP, LineageOS or CalyxOS`},
		{"--system calyxos --release 13", "calyxos of Android 13: it is known of Android 15 alone"},
		{"--hypervisor gunyah --release 13", "release 13 with gunyah: its crosvm knows KVM alone"},
		{"--report phone.txt --root none", "[report root] were all set"},
		{"--report none.txt", "open none.txt: no such file"},
		{"more", `unknown command "more" for "sov-simulator"`},
	} {
		c := newCommand()
		c.SetArgs(strings.Fields(tt.args))
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.says)
		}
	}
}

// A simulator is a run of the program in its own process group, as a terminal starts it.
type simulator struct {
	t       *testing.T
	command *exec.Cmd
	out     bytes.Buffer // complete once the process has ended
	lines   chan string
}

// environment is a computer with an adb server for the test. The user's adb server is not used.
type environment struct {
	program string
	server  *androidtest.ADBServer
	dir     string // for temporary files
}

func newEnvironment(t *testing.T) environment {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces for a simulated phone")
	}
	e := environment{filepath.Join(t.TempDir(), "sov-simulator"), androidtest.NewADBServer(t), t.TempDir()}
	build := exec.Command("go", "build", "-o", e.program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile sov-simulator: %v: %s", err, out)
	}
	return e
}

func (e environment) start(t *testing.T, args ...string) *simulator {
	t.Helper()
	s := &simulator{t: t, command: exec.Command(e.program, args...), lines: make(chan string, 64)}
	s.command.Env = append(os.Environ(), "TMPDIR="+e.dir, "PATH="+filepath.Dir(e.server.Program())+":"+os.Getenv("PATH"))
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.command.Stdout, s.command.Stderr = write, write
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() { syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL) }) // it may have ended
	go func() {
		defer close(s.lines)
		defer read.Close()
		part := make([]byte, 4096)
		for {
			n, err := read.Read(part)
			s.out.Write(part[:n])
			if err != nil {
				return
			}
			s.lines <- string(part[:n])
		}
	}()
	return s
}

// ready waits until the program reports that the phone has started.
func (s *simulator) ready() {
	s.t.Helper()
	late := time.After(2 * time.Minute)
	for said := ""; !strings.Contains(said, "Ctrl-C"); {
		select {
		case part, open := <-s.lines:
			if said += part; !open {
				s.t.Fatalf("it has ended: %v: %s", s.command.Wait(), said)
			}
		case <-late:
			s.t.Fatalf("it is not ready: %s", said)
		}
	}
}

// interrupt sends SIGINT to the process group, as a terminal does on Ctrl-C. It returns the exit
// status and the whole output.
func (s *simulator) interrupt() (int, string) {
	s.t.Helper()
	if err := syscall.Kill(-s.command.Process.Pid, syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	return s.end()
}

func (s *simulator) end() (int, string) {
	s.t.Helper()
	late := time.AfterFunc(time.Minute, func() { s.command.Process.Kill() })
	defer late.Stop()
	for range s.lines {
	}
	if err := s.command.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.t.Fatal(err)
	}
	return s.command.ProcessState.ExitCode(), s.out.String()
}

// traces returns everything a phone could leave on this computer: network configuration, mounts and
// the simulator's files.
func (e environment) traces(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, command := range []string{"ip -brief address", "ip rule", "ip -6 rule", "ip route show table all", "cat /proc/sys/net/ipv4/ip_forward",
		"find " + e.dir} {
		words := strings.Fields(command)
		text, err := exec.Command(words[0], words[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		fmt.Fprintf(&out, "%s\n%s", command, text)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, e.dir) { // others belong to tests that run at the same time
			out.WriteString(line)
		}
	}
	return out.String()
}

// groups returns the control groups of a simulator's phone.
func groups(t *testing.T, pid int) (found []string) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), fmt.Sprintf("androidtest-%d-", pid)) {
			found = append(found, path)
			return fs.SkipDir
		}
		return nil // groups may disappear during the walk
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// gone checks that nothing of a simulator is left on this computer.
func (e environment) gone(t *testing.T, s *simulator, before string) {
	t.Helper()
	if left := groups(t, s.command.Process.Pid); len(left) > 0 { // a group exists while it has processes
		t.Errorf("left: %q", left)
	}
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range programs {
		if path, _ := os.Readlink(link); path == e.program { // "" for processes that have just ended
			t.Errorf("left: a process of %s: %s", path, link)
		}
	}
	for _, line := range androidtest.Differences(before, e.traces(t)) {
		t.Error(line)
	}
	if devices := strings.TrimSpace(e.server.Run("devices")); devices != "List of devices attached" {
		t.Errorf("adb still knows %s", devices)
	}
}

// TestStateAndEnd verifies that the phone is an adb device, that its storage is kept for the next
// start, and that Ctrl-C removes everything else.
func TestStateAndEnd(t *testing.T) {
	e := newEnvironment(t)
	state := t.TempDir()
	before := e.traces(t)
	for start, want := range []string{"", "kept\n"} {
		s := e.start(t, "--state", state, "--port", "0", "--release", "13", "--root", "kernelsu")
		s.ready()
		if got := e.server.Run("shell", `su -c "cat /data/kept 2>/dev/null; echo kept >/data/kept"; getprop ro.build.version.release`); got != want+"13\n" {
			t.Errorf("start %d: %q", start, got)
		}
		other := e.start(t, "--state", state)
		if status, said := other.end(); status != 1 || !strings.Contains(said, "another sov-simulator runs this phone") {
			t.Errorf("another at the same time: %d, %s", status, said)
		}
		// A process that has left the session of its shell ends with the phone.
		e.server.Run("shell", `su -c "setsid sleep 1000 </dev/null >/dev/null 2>&1 &"`)
		status, said := s.interrupt()
		if status != 0 || !strings.Contains(said, "Android 13, AOSP, root by kernelsu, hypervisor kvm") || !strings.Contains(said, "  sov up sql\n") {
			t.Errorf("start %d: exit status %d: %s", start, status, said)
		}
		e.gone(t, s, before)
	}
}

// TestInterrupted verifies that Ctrl-C before the phone has started leaves nothing.
func TestInterrupted(t *testing.T) {
	e := newEnvironment(t)
	before := e.traces(t)
	for _, moment := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		s := e.start(t, "--port", "0")
		for deadline := time.Now().Add(time.Minute); len(groups(t, s.command.Process.Pid)) == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		pause := time.NewTimer(moment) // the moment of the interrupt is under test
		<-pause.C
		if status, said := s.interrupt(); status != 1 || said != "sov-simulator: interrupted\n" {
			if !strings.Contains(said, "Ctrl-C") { // it was ready by then
				t.Errorf("after %v: exit status %d: %s", moment, status, said)
			}
		}
		e.gone(t, s, before)
	}
}

// TestNotRoot verifies that without root the error is one line with the command to run.
func TestNotRoot(t *testing.T) {
	e := newEnvironment(t)
	for dir := filepath.Dir(e.program); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(e.program, "--root", "none")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var said bytes.Buffer
	command.Stdout, command.Stderr = io.Discard, &said
	err := command.Run()
	want := fmt.Sprintf("sov-simulator: it needs root to create namespaces: sudo %s --root none\n", e.program)
	if err == nil || said.String() != want {
		t.Errorf("%v, %q, want %q", err, said.String(), want)
	}
}
