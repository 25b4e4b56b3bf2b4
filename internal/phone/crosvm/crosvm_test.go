package crosvm

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// descriptors returns a machine as Start passes it to crosvm: all its files are open.
func descriptors() Machine {
	return Machine{Name: "sql", Kernel: "/proc/self/fd/4", Params: []string{"root=/dev/vda", "ro"}, MemoryMiB: 1024, CPUs: 2,
		Disks: []Disk{{"/proc/self/fd/5", true}, {"/proc/self/fd/6", false}}, TAP: "vm_sql", MAC: MACFor("sql"), Socket: "/dev/sov/0/crosvm.sock",
		Console: "/proc/self/fd/7", Requests: "/proc/self/fd/8", Early: "/proc/self/fd/10", Options: avf.Options{}.On(avf.KVM)}
}

// machine returns a machine whose files are in a folder.
func machine(t *testing.T) Machine {
	t.Helper()
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return Machine{Name: "sql", Kernel: kernel, MemoryMiB: 64, CPUs: 1, Socket: filepath.Join(dir, "crosvm.sock")}
}

// kinds are the machines whose arguments are in testdata/args, by the second part of a file's name.
var kinds = map[string]avf.Options{
	"kvm":           avf.Options{}.On(avf.KVM),
	"kvm-protected": avf.Options{Protection: avf.Protected}.On(avf.KVM),
	"gunyah":        avf.Options{SwiotlbMiB: 64}.On(avf.Gunyah),
	"geniezone":     avf.Options{HugePages: true}.On(avf.GenieZone),
}

var update = flag.Bool("update", false, "rewrite the files in testdata")

// of returns the crosvm of a release.
func of(r crosvmcli.Release) *Program {
	return &Program{Path: AndroidPath, Flags: avf.ParseHelp(crosvmcli.Facts().Help(r, "run"))}
}

// TestArgs: the arguments for each release of Android and each hypervisor. That release accepts
// them. An older release refuses them if it does not support one of their flags.
func TestArgs(t *testing.T) {
	table := crosvmcli.Facts()
	nothing := func(path string) bool { return strings.HasPrefix(path, "/proc/") }
	for _, r := range crosvmcli.Releases {
		for kind, options := range kinds {
			t.Run(string(r)+"-"+kind, func(t *testing.T) {
				m := descriptors()
				m.Options = options
				args, err := of(r).args(m, 9)
				if r == crosvmcli.Android13 && options.Hypervisor != avf.KVM {
					if !errors.Is(err, ErrLacks) {
						t.Errorf("Android 13 knows KVM alone: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				text := strings.Join(args, "\n") + "\n"
				path := filepath.Join("testdata", "args", string(r)+"-"+kind+".txt")
				if *update {
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(path); err != nil || string(want) != text {
					t.Errorf("got\n%s\nwant\n%s%v (go test -update rewrites it)", text, want, err)
				}
				for _, other := range crosvmcli.Releases {
					newer := slices.ContainsFunc(args, func(a string) bool {
						_, known := table.Find(other, a)
						return strings.HasPrefix(a, "--") && a != "--extended-status" && !known
					})
					_, err := table.Parse(other, args, nothing)
					if taken := err == nil; taken == newer || other == r && !taken {
						t.Errorf("Android %s: %v", other, err)
					}
				}
			})
		}
	}
}

func TestArgsRefuse(t *testing.T) {
	p := of(crosvmcli.Android15)
	p.Flags["--protected-vm"], p.Flags["--swiotlb"] = false, false
	for want, change := range map[string]func(*Machine){
		"kernel":         func(m *Machine) { m.Kernel = "" },
		"control socket": func(m *Machine) { m.Socket = "" },
		"--protected-vm": func(m *Machine) { m.Options.Protection = avf.Protected },
		"--swiotlb":      func(m *Machine) { m.Options.SwiotlbMiB = 64 },
	} {
		m := descriptors()
		change(&m)
		if _, err := p.args(m, 9); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %q", err, want)
		}
	}
}

func TestMACFor(t *testing.T) {
	for _, name := range []string{"sql", "other"} {
		mac, err := net.ParseMAC(MACFor(name))
		if err != nil || mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Errorf("%s: %v, %v: not a locally administered unicast address", name, mac, err)
		}
	}
	if MACFor("sql") == MACFor("other") {
		t.Error("two machines have one address")
	}
}

// program writes a shell script that replaces crosvm.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crosvm")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	for _, r := range crosvmcli.Releases {
		for name, before := range map[string]string{"plain": "", "needs libraries": `[ -n "$LD_LIBRARY_PATH" ] || { echo 'CANNOT LINK EXECUTABLE' >&2; exit 1; }; `} {
			t.Setenv("LD_LIBRARY_PATH", "")
			path := program(t, before+"cat <<'END'\n"+crosvmcli.Facts().Help(r, "run")+"END\nexit 1\n")
			p, err := Find(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			for _, flag := range []string{"--disk", "--block", "--net", "--name", "--no-pmu", "--no-i8042", "--hypervisor"} {
				if _, has := crosvmcli.Facts().Find(r, flag); p.Flags[flag] != has {
					t.Errorf("Android %s, %s: %s found: %t", r, name, flag, p.Flags[flag])
				}
			}
			if (len(p.Env) > 0) != (name != "plain") {
				t.Errorf("Android %s, %s: %q", r, name, p.Env)
			}
		}
	}
}

func TestFindFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'CANNOT LINK EXECUTABLE: libfoo.so not found' >&2; exit 1": "libfoo.so not found",
		"echo hello": "lists no flags",
		"cat <<'END'\n" + strings.NewReplacer("--net ", "--nyet", "--tap-fd", "--cap-fd").Replace(crosvmcli.Facts().Help(crosvmcli.Android15, "run")) + "END": "a network card (--net, --tap-fd)",
	} {
		if _, err := Find(t.Context(), program(t, script)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", script, err, want)
		}
	}
	if _, err := Find(t.Context(), "/nowhere/crosvm"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestExit(t *testing.T) {
	for script, want := range map[string]Exit{
		"exit 0":     {Kind: Stopped},
		"exit 32":    {Kind: Reset, Code: 32},
		"exit 33":    {Kind: Crash, Code: 33},
		"exit 34":    {Kind: Panic, Code: 34},
		"exit 35":    {Kind: InvalidArguments, Code: 35},
		"exit 36":    {Kind: Watchdog, Code: 36},
		"exit 1":     {Kind: Failed, Code: 1},
		"kill -9 $$": {Kind: Killed, Code: -1, Signal: syscall.SIGKILL},
	} {
		p := &Program{Path: program(t, script), Flags: of(crosvmcli.Android15).Flags}
		process, err := p.Start(machine(t), nil, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if got := process.Wait(); got != want {
			t.Errorf("%s: got %+v, want %+v", script, got, want)
		} else if got.String() == "" {
			t.Errorf("%s: nothing to say", script)
		}
	}
}

func TestStartFails(t *testing.T) {
	p := &Program{Path: "/nowhere/crosvm", Flags: of(crosvmcli.Android15).Flags}
	if _, err := p.Start(machine(t), nil, os.Stderr); err == nil || err.Error() != "start crosvm: /nowhere/crosvm: no such file or directory" {
		t.Errorf("as root: %v", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: becomes another user")
	}
	_, err := p.Start(machine(t), UserFor("sql"), os.Stderr)
	if !errors.Is(err, ErrConfine) || !strings.Contains(err.Error(), "/nowhere/crosvm") {
		t.Errorf("as another user: %v", err)
	}
	m := machine(t)
	m.Kernel = "/nowhere/kernel"
	if _, err := p.Start(m, nil, os.Stderr); err == nil || !strings.Contains(err.Error(), "kernel: open /nowhere/kernel") {
		t.Errorf("without a kernel: %v", err)
	}
}

func TestClearSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crosvm.sock")
	if err := ClearSocket(path); err != nil {
		t.Errorf("no socket: %v", err)
	}
	for _, kind := range []string{"unixpacket", "unix"} {
		l, err := net.ListenUnix(kind, &net.UnixAddr{Name: path, Net: kind})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if err := ClearSocket(path); !errors.Is(err, ErrSocketHeld) {
			t.Errorf("held (%s): %v", kind, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a held socket went: %v", err)
		}
		l.Close()
		if err := ClearSocket(path); err != nil {
			t.Errorf("stale (%s): %v", kind, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("a stale socket stayed (%s)", kind)
		}
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ClearSocket(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

// TestExplain: the guest's console and crosvm's output explain an exit status.
func TestExplain(t *testing.T) {
	const off, restart, panics = "x\n[ 9.9] reboot: Power down\n", "[ 9.9] reboot: Restarting system\n", "[ 9.9] Kernel panic - not syncing: x\n"
	for _, tt := range []struct {
		kind          Kind
		announced     bool
		console, said string
		want          Kind
		reason        string
	}{
		{Stopped, false, off, "", Stopped, ""},
		{Stopped, true, "", "", Stopped, ""}, // the phone is full: the log cannot grow
		{Stopped, false, "nothing", "[2026-01-01T00:00:00.000000000+00:00 INFO  crosvm] system crash event on vcpu 0\n[2026-01-01T00:00:00.000000000+00:00 INFO  crosvm] exiting with success\n", Vanished, "system crash event on vcpu 0"},
		{Stopped, false, off + restart, "", Vanished, ""},
		{Reset, false, restart, "", Reset, ""},
		{Reset, false, panics, "", Panic, ""}, // without a driver for pvpanic
		{Reset, false, "", "", Crash, ""},
		{Panic, false, panics, "", Panic, ""},
		{Failed, false, "", "[ERROR:src/main.rs:3] crosvm has exited with error: a: b: c\n", Failed, "a: b: c"},
		{Failed, false, "", "[2026-01-01T00:00:00.000000000+00:00 ERROR crosvm] exiting with error 1: a\n\nCaused by:\n    b (os error 2)\n", Failed, "a: b (os error 2)"},
		{Failed, false, "", "[2026-01-01T00:00:00.000000000+00:00 ERROR crosvm] exiting with error 1: old\n[2026-01-01T00:00:00.000000000+00:00 ERROR crosvm] exiting with error 1: a\n\nCaused by:\n    0: b\n    1: c\n2026-01-02T03:04:05.000Z booting\n    not of it\n", Failed, "a: b: c"},
		{Failed, false, "", "CANNOT LINK EXECUTABLE: libx.so not found\n2026-01-02T03:04:05.000Z booting\n", Failed, "CANNOT LINK EXECUTABLE: libx.so not found"},
		{InvalidArguments, false, "", "[2026-01-01T00:00:00.000000000+00:00 ERROR crosvm] arg parsing failed: Unrecognized argument: --x\n[2026-01-01T00:00:00.000000000+00:00 INFO  crosvm] invalid argument\n", InvalidArguments, "Unrecognized argument: --x"},
	} {
		e := Exit{Kind: tt.kind, Announced: tt.announced}.Explain(tt.console, tt.said)
		if e.Kind != tt.want || e.Reason != tt.reason {
			t.Errorf("%s after %q and %q: %+v, want %s: %s", tt.kind, tt.console, tt.said, e, tt.want, tt.reason)
		}
	}
}

// TestRequest: a request reaches the process that has the pipe open. Without a reader it fails at
// once.
func TestRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "requests")
	if err := Request(path, "x"); err == nil {
		t.Error("there is no pipe")
	}
	f, err := makeRequests(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Request(path, "shutdown"); err != nil {
		t.Fatal(err)
	}
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := f.Read(line)
	if err != nil || string(line[:n]) != "shutdown\n" {
		t.Errorf("%q, %v", line[:n], err)
	}
	f.Close()
	if err := Request(path, "shutdown"); err == nil {
		t.Error("a request succeeds without a reader")
	}
}

func ExampleExit_String() {
	fmt.Println(Exit{Kind: Panic, Code: 34})
	// Output: the guest's kernel panicked (crosvm's exit status 34)
}
