package crosvm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func machine() Machine {
	return Machine{Name: "sql", Kernel: "/s/kernel", Params: []string{"root=/dev/vda", "ro"}, MemoryMiB: 1024, CPUs: 2,
		Disks: []Disk{{"/s/rootfs.img", true}, {"/v/data.img", false}}, TAP: "vm_sql", MAC: MACFor("sql"), Socket: "/r/crosvm.sock", Console: "/r/console.log", Early: "/r/early.log"}
}

func TestArgs(t *testing.T) {
	for name, tt := range map[string]struct {
		program Program
		want    string
	}{
		"present": {Program{}, "run --disable-sandbox --mem 1024 --cpus 2 --socket /r/crosvm.sock --name sql --block path=/s/rootfs.img,ro --block path=/v/data.img " +
			"--net tap-name=vm_sql,mac=" + MACFor("sql") + " --serial type=file,hardware=virtio-console,num=1,console=true,path=/r/console.log " +
			"--serial type=file,hardware=serial,num=1,earlycon=true,path=/r/early.log " +
			"--params root=/dev/vda --params ro /s/kernel"},
		"old": {Program{Old: true}, "run --disable-sandbox --mem 1024 --cpus 2 --socket /r/crosvm.sock --disk /s/rootfs.img --rwdisk /v/data.img " +
			"--tap-name vm_sql --serial type=file,hardware=virtio-console,num=1,console=true,path=/r/console.log " +
			"--serial type=file,hardware=serial,num=1,earlycon=true,path=/r/early.log " +
			"--params root=/dev/vda --params ro /s/kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			args, err := tt.program.Args(machine())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(args, " "); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestArgsRefuse(t *testing.T) {
	for want, change := range map[string]func(*Machine){
		"comma":          func(m *Machine) { m.Disks[0].Path = "/a,ro" },
		"has a comma":    func(m *Machine) { m.Console = "/a,b" },
		"kernel":         func(m *Machine) { m.Kernel = "" },
		"control socket": func(m *Machine) { m.Socket = "" },
	} {
		m := machine()
		change(&m)
		if _, err := new(Program).Args(m); err == nil || !strings.Contains(err.Error(), want) {
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

// program writes a shell script that plays crosvm.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crosvm")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	const present, old = "echo '  --block\n  --net'", "echo '  -d, --disk\n  --rwdisk PATH'; exit 1"
	for name, tt := range map[string]struct {
		script   string
		old, env bool
	}{
		"present":         {present, false, false},
		"old":             {old, true, false},
		"needs libraries": {`[ -n "$LD_LIBRARY_PATH" ] || { echo 'CANNOT LINK EXECUTABLE' >&2; exit 1; }; ` + present, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LD_LIBRARY_PATH", "")
			p, err := Find(t.Context(), program(t, tt.script))
			if err != nil {
				t.Fatal(err)
			}
			if p.Old != tt.old || (len(p.Env) > 0) != tt.env {
				t.Errorf("found %+v", p)
			}
		})
	}
}

func TestFindFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'CANNOT LINK EXECUTABLE: libfoo.so not found' >&2; exit 1": "libfoo.so not found",
		"echo hello": "neither --block nor --rwdisk",
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
		p := &Program{Path: program(t, script)}
		process, err := p.Start(machine(), os.Stderr)
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

// The stand-in that tests of the whole run is as strict as crosvm.
func TestStandInIsStrict(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "crosvm")
	if out, err := exec.Command("go", "build", "-o", path, "../../testkit/androidtest/crosvm").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, make([]byte, 1024), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{
		"run --bogus " + kernel:                                  35,
		"run --block path=/nowhere " + kernel:                    35,
		"run --block path=" + kernel + ",colour=red " + kernel:   35,
		"run --net tap-name=none0 " + kernel:                     35,
		"run --mem lots " + kernel:                               35,
		"run --serial type=carrier-pigeon " + kernel:             35,
		"run " + kernel + " " + kernel:                           35,
		"run --rwdisk " + kernel + " " + kernel:                  35,
		"run":                                                    35,
		"fly":                                                    35,
		"run --socket " + filepath.Join(dir, "s") + " " + kernel: 1, // no kernel in it
		"stop " + filepath.Join(dir, "nobody"):                   1,
		"version":                                                0,
	} {
		err := exec.Command(path, strings.Fields(args)...).Run()
		if got := exitOf(err); got.Code != want {
			t.Errorf("%s: exit status %d, want %d", args, got.Code, want)
		}
	}
	for dialect, old := range map[string]bool{"": false, "old": true} {
		t.Setenv("CROSVM_DIALECT", dialect)
		p, err := Find(t.Context(), path)
		if err != nil || p.Old != old {
			t.Errorf("dialect %q: %+v, %v", dialect, p, err)
		}
	}
}

func ExampleExit_String() {
	fmt.Println(Exit{Kind: Panic, Code: 34})
	// Output: the guest's kernel panicked (crosvm's exit status 34)
}
