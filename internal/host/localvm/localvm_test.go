package localvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// Programs for an arm64 processor in place of a kernel.
var (
	idle = []uint32{0x14000000} // b .
	// powerOff switches the machine off at once: SYSTEM_OFF of Arm's PSCI, function 0x84000008.
	powerOff = []uint32{
		0x52800100, // mov w0, #8
		0x72b08000, // movk w0, #0x8400, lsl 16
		0xd4000002, // hvc #0
		0x14000000, // b .
	}
)

// options returns the options of a machine with this kernel, in new folders.
func options(t *testing.T, program []uint32) Options {
	t.Helper()
	if _, err := qemu.Find("arm64"); err != nil {
		t.Skip(err)
	}
	artifact := t.TempDir()
	spec := vmspec.Spec{
		Format: vmspec.Format, Name: "test", Arch: "arm64", Kernel: "kernel", MemoryMiB: 64, CPUs: 1,
		Disks: []vmspec.Disk{
			{Role: vmspec.RoleRootfs, File: "rootfs.img", ReadOnly: true},
			{Role: vmspec.RoleData, Size: 128 << 20},
			{Role: vmspec.RoleConfig, ReadOnly: true},
			{Role: vmspec.RoleVolume, Name: "media", Size: 256 << 20},
		},
		Network: vmspec.Network{
			TAP: "vm_test", MTU: 1500, Routing: vmspec.MainFirst,
			Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
		},
		Ports: []vmspec.Port{{Service: "postgres", Port: 5432}},
		Ready: vmspec.Ready{Port: vmspec.StatusPort, TimeoutSeconds: 60},
	}
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	kernel := make([]byte, 0, 4096)
	for _, instruction := range program {
		kernel = binary.LittleEndian.AppendUint32(kernel, instruction)
	}
	for name, content := range map[string][]byte{"vm.json": text, "kernel": kernel[:cap(kernel)], "rootfs.img": make([]byte, 4096)} {
		if err := os.WriteFile(filepath.Join(artifact, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{Artifact: artifact, State: filepath.Join(t.TempDir(), "state"), Now: time.Now, Console: io.Discard}
}

// wantOnly fails the test if the folder contains other files than these.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if got, want := strings.Join(found, " "), strings.Join(names, " "); got != want {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func TestFailedStartLeavesNoSecretAndNoLock(t *testing.T) {
	for name, breakIt := range map[string]func(t *testing.T, o Options){
		"no kernel":      func(t *testing.T, o Options) { os.Remove(filepath.Join(o.Artifact, "kernel")) },
		"no rootfs":      func(t *testing.T, o Options) { os.Remove(filepath.Join(o.Artifact, "rootfs.img")) },
		"no room for it": func(t *testing.T, o Options) { block(t, o, "data.img") },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, idle)
			breakIt(t, o)
			if vm, err := Start(t.Context(), o); err == nil {
				vm.Close()
				t.Fatal("it starts")
			}
			for _, name := range []string{"config.img", "config.img.new"} {
				if info, err := os.Stat(filepath.Join(o.State, name)); err == nil && info.Mode().IsRegular() {
					t.Errorf("%s, which holds secrets, was left behind", name)
				}
			}
			s, err := openState(t.Context(), o.State, "")
			if err != nil {
				t.Fatalf("the lock was left behind: %v", err)
			}
			s.close()
		})
	}
}

// TestConfigDiskInMemory: the config disk, which has the secrets, is never a named file. The test
// blocks its path.
func TestConfigDiskInMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files in memory are Linux's")
	}
	o := options(t, idle)
	o.Secrets = map[string]string{"postgres": "c4n4ry"}
	block(t, o, "config.img")
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", vm.PID()))
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, fd := range open {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "/memfd:sov-config") {
			content, err := os.ReadFile(fd)
			if err != nil || !strings.Contains(string(content), "c4n4ry") {
				t.Errorf("the config disk has %d bytes and not the secret, %v", len(content), err)
			}
			held++
		}
	}
	if held == 0 {
		t.Errorf("QEMU has no config disk in memory among %d files", len(open))
	}
}

// TestOpenStateRemovesSecretsOfKilledRuns: openState removes the partly written secrets of killed
// runs, including those of earlier versions.
func TestOpenStateRemovesSecretsOfKilledRuns(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"config.img", "config.img.new", ".config.img.new-1", "passfile", "passfile.new", ".passfile.new-23", "pgpass"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openState(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	wantOnly(t, dir, "lock", "pgpass")
}

// block creates a directory that is not empty at the path of a state file.
func block(t *testing.T, o Options, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(o.State, name, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestStateOutlivesTheMachine(t *testing.T) {
	o := options(t, idle)
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantOnly(t, o.State, "data.img", "lock", "pgpass", "running.json", "volume-media.img") // the config disk has no name
	if strings.Contains(vm.URL(), "password") || !strings.Contains(vm.URL(), "passfile=") {
		t.Errorf("URL %s", vm.URL())
	}
	if _, err := Start(t.Context(), o); !errors.Is(err, errBusy) {
		t.Errorf("a second machine on the same data: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(o.State, "pgpass"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(o.State, "volume-media.img")); err != nil || info.Size() != 256<<20 {
		t.Errorf("the volume: %v, %v", info, err)
	}
	// A mark on the disk, beyond the metadata of the first group, shows that the disk is not
	// re-created.
	data, err := os.OpenFile(filepath.Join(o.State, "data.img"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if _, err := data.WriteAt([]byte("kept"), 100<<20); err != nil {
		t.Fatal(err)
	}
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	vm, err = Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	mark := make([]byte, 4)
	if _, err := data.ReadAt(mark, 100<<20); err != nil || string(mark) != "kept" {
		t.Errorf("the data disk was made anew: %q, %v", mark, err)
	}
	if after, err := os.ReadFile(filepath.Join(o.State, "pgpass")); err != nil || string(after) != string(before) {
		t.Errorf("the password changed (%v)", err)
	}
}

func TestGrowData(t *testing.T) {
	o := options(t, idle)
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	for _, tt := range []struct{ to, want int64 }{{256 << 20, 256 << 20}, {128 << 20, 256 << 20}} { // never smaller
		if err := vm.GrowData(t.Context(), tt.to); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(o.State, "data.img"))
		if err != nil || info.Size() != tt.want {
			t.Errorf("to %d: it has %d bytes, %v, want %d", tt.to, info.Size(), err, tt.want)
		}
	}
	for _, name := range []string{"rootfs.img", "kernel"} { // other disks are not changed
		if info, err := os.Stat(filepath.Join(o.Artifact, name)); err != nil || info.Size() != 4096 {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		}
	}
	vm.Kill()
	if err := vm.GrowData(t.Context(), 512<<20); err == nil || !strings.Contains(err.Error(), "test") {
		t.Errorf("of a machine that has ended: %v", err)
	}
}

func TestSecretsEndWithTheRun(t *testing.T) {
	const colon = `c4n4ry of: "'\\ the user`
	for name, tt := range map[string]struct{ password, line string }{
		"in a file": {colon, `*:*:*:postgres:c4n4ry of\: "'\\\\ the user` + "\n*:*:*:app:c4n4ry of the app\n"},
		"in none":   {"c4n4ry\nof two lines", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, idle)
			o.Runtime = t.TempDir()
			declareApp(t, o.Artifact)
			o.Secrets = map[string]string{guestspec.ServicePostgres: tt.password, "role-app": "c4n4ry of the app"}
			vm, err := Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			if vm.Password() != tt.password || vm.HasPasswordFile() != (tt.line != "") || strings.Contains(vm.URL(), "c4n4ry") {
				t.Errorf("password %q, file: %t, URL %s", vm.Password(), vm.HasPasswordFile(), vm.URL())
			}
			if u, err := url.Parse(vm.URL()); err != nil || tt.line != "" {
				path := u.Query().Get("passfile")
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Fatalf("password file: %v, %v", info, err)
				}
				if line, err := os.ReadFile(path); err != nil || string(line) != tt.line {
					t.Errorf("password file: %q, %v; want %q", line, err, tt.line)
				}
			}
			wantOnly(t, o.State, "data.img", "lock", "running.json", "volume-media.img")
			if err := vm.Close(); err != nil {
				t.Fatal(err)
			}
			wantOnly(t, o.Runtime)
		})
	}
}

// declareApp adds the role app to an artifact's recipe.
func declareApp(t *testing.T, artifact string) {
	t.Helper()
	spec, err := ReadSpec(artifact)
	if err != nil {
		t.Fatal(err)
	}
	spec.Postgres = &vmspec.Postgres{Superuser: vmspec.SuperuserFromHost, Logins: []vmspec.Login{{Role: "app", Database: "app", Secret: "role-app"}}}
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(artifact, "vm.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGeneratedPasswords: generated passwords stay the same in later runs, also with given ones. A
// role that a later recipe adds gets a password.
func TestGeneratedPasswords(t *testing.T) {
	s, err := openState(t.Context(), t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	app := vmspec.Login{Role: "app", Database: "app", Secret: "role-app"}
	first, file, err := s.passwords([]vmspec.Login{vmspec.Superuser}, nil)
	if err != nil || len(first["postgres"]) < 20 || file != s.path("pgpass") {
		t.Fatalf("%v, %s, %v", first, file, err)
	}
	for _, tt := range []struct {
		given map[string]string
		file  string
	}{{nil, "pgpass"}, {map[string]string{"postgres": "given"}, passfileName}, {nil, "pgpass"}} {
		all, file, err := s.passwords([]vmspec.Login{vmspec.Superuser, app}, tt.given)
		want := first["postgres"]
		if given := tt.given["postgres"]; given != "" {
			want = given
		}
		if err != nil || all["postgres"] != want || len(all["role-app"]) < 20 || first["role-app"] != "" && first["role-app"] != all["role-app"] {
			t.Errorf("given %v: %v, at first %v; %v", tt.given, all, first, err)
		}
		first["role-app"] = all["role-app"]
		text, err := os.ReadFile(file)
		if err != nil || file != s.path(tt.file) || string(text) != passfile("postgres", want)+passfile("app", all["role-app"]) {
			t.Errorf("given %v: %s holds %q, %v", tt.given, file, text, err)
		}
	}
}

// TestPathsOfAURLAreAbsolute: a URL contains the password file's path, and is used in other
// folders.
func TestPathsOfAURLAreAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := openState(t.Context(), "state", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, passfile, err := s.passwords([]vmspec.Login{vmspec.Superuser}, map[string]string{"postgres": "x"}); err != nil || passfile != filepath.Join(dir, "state", passfileName) {
		t.Errorf("the password file is %s, %v", passfile, err)
	}
}

// TestLeftSecretsAreRemoved: without a folder in memory, a killed run leaves files with secrets.
// The next run removes them.
func TestLeftSecretsAreRemoved(t *testing.T) {
	o := options(t, idle)
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{configName, passfileName} {
		if err := os.WriteFile(filepath.Join(o.State, name), []byte("c4n4ry"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.Runtime = filepath.Join(o.State, "absent")
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	wantOnly(t, o.State, "data.img", "lock", "pgpass", "running.json", "volume-media.img")
}

func TestMachineThatPowersOff(t *testing.T) {
	vm, err := Start(t.Context(), options(t, powerOff))
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Wait(); err != nil {
		t.Errorf("a machine that switched itself off: %v", err)
	}
	if err := vm.Shutdown(t.Context(), time.Minute); err != nil {
		t.Errorf("shutdown of a machine that has ended: %v", err)
	}
	if err := vm.Ready(t.Context(), nil); !errors.Is(err, ErrNotReady) {
		t.Errorf("ready: %v, want ErrNotReady", err)
	}
}

func TestShutdownOfUnresponsiveMachine(t *testing.T) {
	vm, err := Start(t.Context(), options(t, idle))
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Shutdown(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "switched off") {
		t.Errorf("got %v, want that it was switched off", err)
	}
	select {
	case <-vm.Done():
	default:
		t.Error("it still runs")
	}
}

// TestReadyTimeout: an emulated processor gets a longer timeout.
func TestReadyTimeout(t *testing.T) {
	spec := &vmspec.Spec{Ready: vmspec.Ready{TimeoutSeconds: 300}}
	if got := ReadyTimeout(spec, true); got != 5*time.Minute {
		t.Errorf("with KVM: %v, want the one in vm.json", got)
	}
	if got := ReadyTimeout(spec, false); got != 20*time.Minute {
		t.Errorf("emulated: %v, want four times as long", got)
	}
}
