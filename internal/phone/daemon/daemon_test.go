package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestPolicy(t *testing.T) {
	const never, briefly, long = 0, time.Second, 2 * time.Minute
	type end struct {
		kind  crosvm.Kind
		ready time.Duration
		want  verdict
	}
	for name, ends := range map[string][]end{
		"off after ready":      {{crosvm.Stopped, long, stayOff}},
		"off before ready":     {{crosvm.Stopped, never, restartLater}},
		"reboots":              {{crosvm.Reset, long, restartNow}, {crosvm.Reset, briefly, restartNow}, {crosvm.Reset, briefly, restartNow}},
		"given up":             {{crosvm.Vanished, long, restartLater}, {crosvm.Vanished, briefly, restartLater}, {crosvm.Vanished, never, crashLoop}},
		"reboots at boot":      {{crosvm.Reset, never, restartLater}, {crosvm.Reset, never, restartLater}, {crosvm.Reset, never, crashLoop}},
		"arguments":            {{crosvm.InvalidArguments, never, giveUp}},
		"crash loop":           {{crosvm.Panic, never, restartLater}, {crosvm.Crash, never, restartLater}, {crosvm.Watchdog, never, crashLoop}},
		"killed now and then":  {{crosvm.Killed, long, restartLater}, {crosvm.Killed, long, restartLater}, {crosvm.Killed, long, restartLater}, {crosvm.Killed, long, restartLater}},
		"killed again, again":  {{crosvm.Killed, briefly, restartLater}, {crosvm.Killed, briefly, restartLater}, {crosvm.Killed, briefly, crashLoop}},
		"forgiven after ready": {{crosvm.Panic, never, restartLater}, {crosvm.Panic, never, restartLater}, {crosvm.Panic, long, restartLater}, {crosvm.Panic, never, restartLater}},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy{limit: 3}
			for i, e := range ends {
				if got := p.after(crosvm.Exit{Kind: e.kind}, e.ready); got != e.want {
					t.Errorf("end %d, %s after being ready for %v: verdict %d, want %d", i, e.kind, e.ready, got, e.want)
				}
			}
		})
	}
}

func TestPause(t *testing.T) {
	var got []string
	for failures := 1; failures <= 9; failures++ {
		got = append(got, (&policy{failures: failures}).pause().String())
	}
	if want := "1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s"; strings.Join(got, " ") != want {
		t.Errorf("pauses %v, want %s", got, want)
	}
}

// A stubborn machine ends only in certain ways.
type stubborn struct {
	asked   []string
	endsAt  string // the way that works
	refuses map[string]bool
	gone    bool
}

func (m *stubborn) ask(way string) error {
	m.asked = append(m.asked, way)
	if m.refuses[way] {
		return errors.New(way + " does not answer")
	}
	m.gone = m.gone || way == m.endsAt
	return nil
}

func (m *stubborn) askGuest(context.Context) error   { return m.ask("guest") }
func (m *stubborn) askConsole() error                { return m.ask("console") }
func (m *stubborn) stopCrosvm(context.Context) error { return m.ask("stop") }
func (m *stubborn) kill() error                      { return m.ask("kill") }
func (m *stubborn) wait(context.Context) bool        { return m.gone }

func TestShutDown(t *testing.T) {
	for name, tt := range map[string]struct {
		machine stubborn
		asked   string
		how     string
	}{
		"in order":       {stubborn{endsAt: "guest"}, "guest", "in order"},
		"guest is deaf":  {stubborn{endsAt: "console", refuses: map[string]bool{"guest": true}}, "guest console", "at its console"},
		"guest hangs":    {stubborn{endsAt: "stop"}, "guest console stop", "did not answer"},
		"crosvm hangs":   {stubborn{endsAt: "kill", refuses: map[string]bool{"stop": true}}, "guest console stop kill", "killed"},
		"kernel hangs":   {stubborn{}, "guest console stop kill", ""},
		"was on its way": {stubborn{gone: true, refuses: map[string]bool{"guest": true}}, "guest", "in order"},
	} {
		t.Run(name, func(t *testing.T) {
			how, err := shutDown(t.Context(), &tt.machine, time.Second, func(s string) { t.Log(s) })
			if got := strings.Join(tt.machine.asked, " "); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
			if !strings.Contains(how, tt.how) || (tt.how == "") != (err != nil) {
				t.Errorf("ended %q, %v", how, err)
			}
		})
	}
}

// TestStateIsNeverHalfWritten: readers of a state that changes often read only whole files.
func TestStateIsNeverHalfWritten(t *testing.T) {
	vm := newVM(t)
	file := &stateFile{path: vm.State(), now: time.Now, log: func(string) {}}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				s, err := readState(vm)
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				if s.Reason != "" && len(s.Reason) != 4096 {
					t.Errorf("a reason of %d bytes", len(s.Reason))
				}
			}
		})
	}
	for i := range 500 {
		file.change(func(s *runnerapi.State) {
			s.Format, s.Name, s.Restarts, s.Reason = runnerapi.Format, "sql", i, strings.Repeat("x", 4096)
		})
	}
	cancel()
	readers.Wait()
	left, err := filepath.Glob(filepath.Join(vm.Run(), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// newVM makes a machine's folders below a new root.
func newVM(t *testing.T) phonepath.VM {
	t.Helper()
	vm, err := phonepath.Root(t.TempDir()).VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(vm.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	return vm
}

// TestLockHolder restarts itself with RUNNER_LOCK as the process that holds the lock.
func TestLockHolder(t *testing.T) {
	if root := os.Getenv("RUNNER_LOCK"); root != "" {
		vm, err := phonepath.Root(root).VM("sql")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := takeLock(vm); err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		select {}
	}
	root := t.TempDir()
	vm, err := phonepath.Root(root).VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := lockHolder(vm); pid != 0 || err != nil {
		t.Errorf("before: %d, %v", pid, err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestLockHolder$")
	child.Env = append(os.Environ(), "RUNNER_LOCK="+root)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(vm); !errors.Is(err, errRunning) {
		t.Errorf("a second one took the lock: %v", err)
	}
	d, err := findDaemon(vm)
	if err != nil || d == nil || d.pid != child.Process.Pid {
		t.Fatalf("found %+v, %v; want process %d", d, err, child.Process.Pid)
	}
	defer d.close()
	if err := d.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t.Context(), vm); err != nil {
		t.Error(err)
	}
	lock, err := takeLock(vm)
	if err != nil {
		t.Fatalf("the lock of a process that was killed: %v", err)
	}
	lock.Release()
}

// TestRemoveRunFiles: files that a killed daemon was writing may contain secrets. They are removed,
// as are those of earlier versions.
func TestRemoveRunFiles(t *testing.T) {
	vm := newVM(t)
	for _, path := range []string{vm.ConfigDisk(), vm.Token()} {
		dir, name := filepath.Split(path)
		for _, name := range []string{name, name + ".new", "." + name + ".new-1"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk, err := os.Open(vm.ConfigDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := removeRunFiles(vm); err != nil {
		t.Fatal(err)
	}
	if was, err := io.ReadAll(disk); err != nil || string(was) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the config disk was removed and not overwritten: %q, %v", was, err)
	}
	if left, err := os.ReadDir(vm.Run()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestRunsMachine(t *testing.T) {
	for line, want := range map[string]bool{
		"/apex/crosvm run --socket /r/s /kernel":                                    true,
		"/apex/crosvm --extended-status run --socket /r/s /kernel":                  true,
		"/apex/crosvm --extended-status --log-level debug run -k --socket /r/s /k":  true,
		`sov-crosvm {"user":5001} /apex/crosvm --extended-status run --socket /r/s`: true, // about to become crosvm
		"/apex/crosvm run --socket /r/other /k":                                     false,
		"/apex/crosvm run --params /r/s --socket /r/other /k":                       false,
		"/apex/crosvm stop /r/s":                                                    false,
		"/apex/crosvm --socket /r/s run":                                            false,
		"sov-runner up sql":                                                         false,
		"":                                                                          false,
	} {
		if got := runsMachine([]byte(strings.ReplaceAll(line, " ", "\x00")+"\x00"), "/r/s"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	writer, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for i := range 6 {
		fmt.Fprintf(writer, "%d: %s\n", i, strings.Repeat("x", 100))
		if err := rotate(path, 60); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= keptLogs; i++ {
		text, err := os.ReadFile(part(path, i))
		if err != nil || !strings.HasPrefix(string(text), fmt.Sprintf("%d: ", 6-i)) {
			t.Errorf("part %d: %.10q, %v", i, text, err)
		}
	}
	if _, err := os.Stat(part(path, keptLogs+1)); err == nil {
		t.Error("more parts than are kept")
	}
	fmt.Fprintln(writer, "after")
	lines, err := tail(path, 2)
	if err != nil || len(lines) != 2 || lines[1] != "after" || !strings.HasPrefix(lines[0], "5: ") {
		t.Errorf("tail %q, %v", lines, err)
	}
	fmt.Fprintf(writer, "%s\nthe last\n", strings.Repeat("x", 1000))
	if err := rotate(path, 60); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(part(path, 1)); err != nil || len(text) != 120 || !strings.HasSuffix(string(text), "the last\n") {
		t.Errorf("of a flood, %d bytes are kept: %q, %v", len(text), text, err)
	}
}

// TestFollowLog: a log that is followed across a rotation is shown once and completely.
func TestFollowLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	lines := make(chan string, 10)
	done := make(chan error, 1)
	at := size(path)
	go func() { done <- followLog(ctx, path, at, lineWriter(lines)) }()
	for i, line := range []string{"one\n", "two\n", "three\n"} {
		if i == 2 {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		f.Close()
		select {
		case got := <-lines:
			if got != line {
				t.Errorf("got %q, want %q", got, line)
			}
		case <-ctx.Done():
			t.Fatalf("never saw %q", line)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestSettings(t *testing.T) {
	for text, want := range map[string]string{
		`{"crosvm": "/x", "vms": {"sql": {"memory_mib": 512, "cpus": 1, "data_mib": 16384, "routing": "scoped"}}}`: "",
		`{"vms": {"sql": {"data_mib": 1}}}`:         "data_mib is 1",
		`{"colour": "red"}`:                         "unknown field",
		`{} {}`:                                     "text after",
		`{"boot_timeout": -1}`:                      "not between",
		`{"vms": {"../x": {}}}`:                     "not the name of a machine",
		`{"vms": {"sql": {"routing": "wherever"}}}`: "not valid",
		`{"vms": {"sql": {"cpus": -1}}}`:            "not valid",
	} {
		s, err := decodeSettings([]byte(text))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if want != "" {
			continue
		}
		spec := &vmspec.Spec{Name: "sql", MemoryMiB: 1024, CPUs: 2, Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs}, {Role: vmspec.RoleData, Size: 8 << 30}}}
		s.apply(spec)
		if spec.Disks[0].Size != 0 || spec.Disks[1].Size != 16<<30 || spec.MemoryMiB != 512 || spec.CPUs != 1 || spec.Network.Routing != vmspec.Scoped {
			t.Errorf("applied: %+v", spec)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"vms": {"sql": {"memory_mib": 512, "routing": "scoped"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		s, err := decodeSettings(text)
		if err != nil {
			return
		}
		if s.bootTimeout() <= 0 || s.shutdownTimeout() <= 0 || s.crashLoop() <= 0 {
			t.Errorf("%s: %+v", text, s)
		}
	})
}

// machineIn makes a machine that could be started. Root owns all its files.
func machineIn(t *testing.T) (phonepath.Root, phonepath.VM) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: what root alone may write is checked")
	}
	root := phonepath.Root(t.TempDir())
	vm, err := root.VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	spec := &vmspec.Spec{Format: vmspec.Format, Name: "sql", Arch: runtime.GOARCH, Kernel: "kernel", MemoryMiB: 512, CPUs: 1,
		Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs, File: "rootfs.img", ReadOnly: true}},
		Network: vmspec.Network{TAP: "vm_sql", Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
			MTU: 1500, Routing: vmspec.MainFirst}, Ready: vmspec.Ready{Port: 8377, TimeoutSeconds: 60}}
	fill(t, vm, "a", spec)
	if err := os.Symlink(phonepath.SlotLink("a"), vm.Current()); err != nil {
		t.Fatal(err)
	}
	return root, vm
}

// fill writes an artifact to a slot.
func fill(t *testing.T, vm phonepath.VM, slot string, spec *vmspec.Spec) {
	t.Helper()
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := vm.Slot(slot)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"vm.json": text, "kernel": []byte("k"), "rootfs.img": []byte("r")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	artifacttest.Seal(t, dir, &manifest.Manifest{Format: manifest.Format, Name: spec.Name, Version: "1", Arch: spec.Arch})
}

func TestLoadArtifact(t *testing.T) {
	root, vm := machineIn(t)
	a, err := loadArtifact(root, Settings{}, vm)
	if err != nil || a.slot != "a" {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := loadArtifact(root, Settings{Arch: "riscv64"}, vm); err == nil || !strings.Contains(err.Error(), "--arch riscv64") {
		t.Errorf("another architecture: %v", err)
	}
	if other, _ := root.VM("other"); true {
		if _, err := loadArtifact(root, Settings{}, other); err == nil || !strings.Contains(err.Error(), "no version of it is installed") {
			t.Errorf("nothing installed: %v", err)
		}
	}
	for name, spoil := range map[string]struct {
		do, undo func(path string) error
		path     string
		says     string
	}{
		"vm.json for all to write": {func(p string) error { return os.Chmod(p, 0o666) }, func(p string) error { return os.Chmod(p, 0o644) }, vm.Slot("a") + "/vm.json", "chmod go-w"},
		"kernel of another user":   {func(p string) error { return os.Chown(p, 1000, 0) }, func(p string) error { return os.Chown(p, 0, 0) }, vm.Slot("a") + "/kernel", "does not belong to root"},
		"slot for all to write":    {func(p string) error { return os.Chmod(p, 0o777) }, func(p string) error { return os.Chmod(p, 0o755) }, vm.Slot("a"), "chmod go-w"},
		"root of another user":     {func(p string) error { return os.Chown(p, 1000, 0) }, func(p string) error { return os.Chown(p, 0, 0) }, string(root), "does not belong to root"},
		"link out": {func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
			func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o644)) }, vm.Slot("a") + "/rootfs.img", "symbolic link"},
		"current elsewhere": {func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/tmp", p)) },
			func(p string) error { return errors.Join(os.Remove(p), os.Symlink(phonepath.SlotLink("a"), p)) }, vm.Current(), "which is not a slot"},
	} {
		if err := spoil.do(spoil.path); err != nil {
			t.Fatal(err)
		}
		if _, err := loadArtifact(root, Settings{}, vm); err == nil || !strings.Contains(err.Error(), spoil.says) {
			t.Errorf("%s: got %v, want %q", name, err, spoil.says)
		}
		if err := spoil.undo(spoil.path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStartComparesWithManifest: a start compares its files with the manifest. A difference or a
// missing file is damage. A machine of an earlier sov, whose manifest has no root hash, starts as
// before.
func TestStartComparesWithManifest(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(dir string) error
		says  string
	}{
		"whole":                {func(string) error { return nil }, ""},
		"kernel":               {func(dir string) error { return os.WriteFile(filepath.Join(dir, "kernel"), []byte("K"), 0o644) }, "kernel has SHA-256"},
		"vm.json":              {func(dir string) error { return os.WriteFile(filepath.Join(dir, "vm.json"), []byte("{}"), 0o644) }, "vm.json is not the one that manifest.json lists"},
		"rootfs.img, its size": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "rootfs.img"), nil, 0o644) }, "rootfs.img is not a file of 1 bytes"},
		"no rootfs.img":        {func(dir string) error { return os.Remove(filepath.Join(dir, "rootfs.img")) }, "no such file"},
		"no manifest.json":     {func(dir string) error { return os.Remove(filepath.Join(dir, "manifest.json")) }, "no such file"},
		"manifest.json":        {func(dir string) error { return os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o644) }, "decode manifest.json"},
		"signature of nothing": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "provenance.dsse.json"), []byte("{}"), 0o644)
		}, "its signature is not valid"},
		"signature of another's": {func(dir string) error { return signatureOfAnother(t, dir) }, "it is about another version"},
	} {
		root, vm := machineIn(t)
		if err := tt.spoil(vm.Slot("a")); err != nil {
			t.Fatal(err)
		}
		a, err := loadArtifact(root, Settings{}, vm)
		if err == nil {
			err = a.check(t.Context())
		}
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.As(err, new(damageError)) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "install it again with `sov push sql`") {
			t.Errorf("%s: %v, want damage and %q", name, err, tt.says)
		}
	}
}

// signatureOfAnother writes a valid signature of another version to an artifact.
func signatureOfAnother(t *testing.T, dir string) error {
	other := artifacttest.Make(t, "sql", "9", []byte("k"), []byte("r"))
	artifacttest.Sign(t, other, artifacttest.Key(t, 1), 9)
	text, err := os.ReadFile(filepath.Join(other, "provenance.dsse.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "provenance.dsse.json"), text, 0o644)
}

func TestLoadSettingsRefusesOthers(t *testing.T) {
	root, _ := machineIn(t)
	if _, err := loadSettings(root); err != nil {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(root.Settings(), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSettings(root); err != nil {
		t.Errorf("root's: %v", err)
	}
	if err := os.Chmod(root.Settings(), 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSettings(root); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("for others to write: %v", err)
	}
	program := filepath.Join(t.TempDir(), "crosvm")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []struct {
		path string
		mode os.FileMode
	}{{program, 0o777}, {program, 0o777 | os.ModeSticky}, {filepath.Dir(program), 0o777}} {
		if err := os.Chmod(spoil.path, spoil.mode); err != nil {
			t.Fatal(err)
		}
		text := fmt.Appendf(nil, `{"crosvm": %q}`, program)
		if err := errors.Join(os.Chmod(root.Settings(), 0o644), os.WriteFile(root.Settings(), text, 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := loadSettings(root); err == nil || !strings.Contains(err.Error(), "chmod go-w "+spoil.path) {
			t.Errorf("a program that others can replace, %v %s: %v", spoil.mode, spoil.path, err)
		}
		if err := os.Chmod(spoil.path, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := loadSettings(root); err != nil {
			t.Error(err)
		}
	}
	if err := (Settings{IPTables: "bin/iptables"}).checkPrograms(); err == nil {
		t.Error("a program below whatever folder it is started from was taken")
	}
}

func TestSecrets(t *testing.T) {
	root, vm := machineIn(t)
	if got, err := loadSecrets(root, vm); len(got) > 0 || err != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	if err := os.MkdirAll(vm.Secrets(), 0o700); err != nil {
		t.Fatal(err)
	}
	const secret = "quotes '\" and\nnewlines\n"
	path := filepath.Join(vm.Secrets(), "postgres")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := loadSecrets(root, vm); err != nil || got["postgres"] != secret {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSecrets(root, vm); err == nil || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), "quotes") {
		t.Errorf("for others to read: %v", err)
	}
}

func TestPeers(t *testing.T) {
	root, vm := machineIn(t)
	a, err := loadArtifact(root, Settings{}, vm)
	if err != nil {
		t.Fatal(err)
	}
	a.spec.Network.Peers = []string{"other"}
	var said []string
	log := func(s string) { said = append(said, s) }
	if got := peers(root, Settings{}, a.spec, log); len(got) > 0 || len(said) != 1 {
		t.Errorf("a peer that is not installed: %v, %q", got, said)
	}
	other, err := root.VM("other")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(other.Dir(), os.DirFS(vm.Dir())); err != nil {
		t.Fatal(err)
	}
	spec := *a.spec
	spec.Name, spec.Network.TAP, spec.Network.Peers = "other", "vm_other", nil
	spec.Network.Host, spec.Network.Guest = netip.MustParsePrefix("192.168.101.1/24"), netip.MustParsePrefix("192.168.101.2/24")
	fill(t, other, "a", &spec)
	if got := peers(root, Settings{}, a.spec, log); len(got) > 0 || !strings.Contains(said[len(said)-1], "does not name sql") {
		t.Errorf("a peer that does not name it: %v, %q", got, said)
	}
	spec.Network.Peers = []string{"sql"}
	fill(t, other, "a", &spec)
	if got := peers(root, Settings{}, a.spec, log); len(got) != 1 || got[0].Network.Subnet().String() != "192.168.101.0/24" {
		t.Errorf("peers: %v, %q", got, said)
	}
	a.spec.Network.Peers, a.spec.Network.Group = nil, "home"
	if got := peers(root, Settings{}, a.spec, log); len(got) > 0 {
		t.Errorf("a machine of no group: %v", got)
	}
	spec.Network.Peers, spec.Network.Group = nil, "away"
	fill(t, other, "a", &spec)
	if got := peers(root, Settings{}, a.spec, log); len(got) > 0 {
		t.Errorf("a machine of another group: %v", got)
	}
	spec.Network.Group = "home"
	fill(t, other, "a", &spec)
	if got := hosts(root, Settings{}, a.spec, log); len(got) != 2 || got[0].Name != "sql.internal" || got[1].Name != "other.internal" || got[1].Address.String() != "192.168.101.2" {
		t.Errorf("names in the group: %v, %q", got, said)
	}
}

// TestConfinement: if crosvm fails before its guest prints anything, the next start changes whether
// crosvm runs as root.
func TestConfinement(t *testing.T) {
	failed := crosvm.Exit{Kind: crosvm.Failed, Code: 1, Reason: "no"}
	aborted := crosvm.Exit{Kind: crosvm.Killed, Code: -1, Signal: syscall.SIGABRT}
	killed := crosvm.Exit{Kind: crosvm.Killed, Code: -1, Signal: syscall.SIGKILL}
	c := confinement{android: true}
	for i, step := range []struct {
		exit crosvm.Exit
		root bool // at the next start
	}{{killed, false}, {crosvm.Exit{Kind: crosvm.Panic}, false}, {failed, true}, {killed, true}, {failed, false}, {aborted, true}} {
		c.learn(step.exit)
		if root := c.user("sql") == nil; root != step.root || (c.refused != "") != root {
			t.Errorf("after end %d: root: %t (%s)", i, root, c.refused)
		}
	}
	elsewhere := confinement{}
	if elsewhere.learn(failed); elsewhere.user("sql") != nil || elsewhere.refused != "" {
		t.Errorf("not on Android: %+v", elsewhere)
	}
	if a, b := crosvm.UserFor("sql"), crosvm.UserFor("vault"); a.ID == b.ID || a.ID < 5000 || a.ID > 5999 {
		t.Errorf("users %d and %d", a.ID, b.ID)
	}
}

// TestConfigPlace: the config disk is in memory, where it is overwritten. If crosvm reports an
// error about it, the next start uses a file.
func TestConfigPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.img")
	var p configPlace
	write := func(inFile bool) {
		t.Helper()
		c, err := p.write(file, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); (err == nil) != inFile || (p.refused != "") != inFile {
			t.Errorf("in a file: %v, want %t; says %q", err, inFile, p.refused)
		}
		f, err := os.Open(c.path())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		before := make([]byte, 6)
		_, err = f.ReadAt(before, 0)
		err = errors.Join(err, c.forget(), c.forget())
		after := make([]byte, 6)
		if _, again := f.ReadAt(after, 0); err != nil || again != nil || string(before) != "secret" || string(after) != string(make([]byte, 6)) {
			t.Errorf("before %q, after %q, %v, %v", before, after, err, again)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is there: %v", err)
		}
	}
	said := func(reason string) crosvm.Exit { return crosvm.Exit{Kind: crosvm.Failed, Code: 1, Reason: reason} }
	const path = "/proc/self/fd/6"
	write(false)
	for i, step := range []struct {
		exit   crosvm.Exit
		learns bool
		inFile bool // at the next start
	}{
		{crosvm.Exit{Kind: crosvm.Panic}, false, false},
		{said("no enabled hypervisor"), false, false},
		{said(`failed to open disk file "/proc/self/fd/5": No such file or directory (os error 2)`), false, false},
		{said(`failed to open disk file "/proc/self/fd/6": failed to lock file: Permission denied (os error 13)`), true, true},
		{said("failed to create guest memory"), false, true},
		{said("failed to lock disk image: Resource temporarily unavailable"), true, false},
	} {
		if learns := p.learn(step.exit, path); learns != step.learns {
			t.Errorf("end %d: learns %t", i, learns)
		}
		write(step.inFile)
	}
}

func TestStatusOfAKilledDaemon(t *testing.T) {
	vm := newVM(t)
	state := runnerapi.State{Format: runnerapi.Format, Name: "sql", Phase: runnerapi.Ready, Daemon: 1 << 22, Crosvm: 1<<22 + 1}
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vm.State(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	root := phonepath.Root(strings.TrimSuffix(vm.Dir(), "/vms/sql"))
	s, err := Status(t.Context(), root, "sql")
	if err != nil {
		t.Fatal(err)
	}
	if s.Phase != runnerapi.Down || s.DaemonAlive || s.CrosvmAlive || !strings.Contains(s.Reason, "killed") {
		t.Errorf("%+v", s)
	}
}

// TestDaemonStartsNewSession: a hang-up or Ctrl-C of a terminal must not reach the daemon, or it
// would stop the machine.
func TestDaemonStartsNewSession(t *testing.T) {
	root, vm := machineIn(t)
	program := filepath.Join(t.TempDir(), "sov-runner")
	const script = "#!/bin/sh\ncat /proc/self/stat >%[1]s/stat.new; readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | cat >%[1]s/fds; mv %[1]s/stat.new %[1]s/stat\n"
	dir := t.TempDir()
	if err := os.WriteFile(program, fmt.Appendf(nil, script, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Up(t.Context(), root, "sql", UpOptions{Program: program, Timeout: 2 * time.Minute})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "its daemon ended") {
		t.Errorf("got %v", err)
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // state ppid pgrp session …
	if own := fmt.Sprint(syscall.Getpgrp()); fields[2] == own {
		t.Errorf("it is of this process's group %s", own)
	}
	fds, err := os.ReadFile(filepath.Join(dir, "fds"))
	if err != nil || string(fds) != "/dev/null\n"+vm.Log()+"\n"+vm.Log()+"\n" {
		t.Errorf("its descriptors are %q, %v", fds, err)
	}
}

func TestLifeOf(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	life := lifeOf("/proc", child.Process.Pid)
	if life == "" || life != lifeOf("/proc", child.Process.Pid) {
		t.Errorf("a process that lives: %q", life)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); lifeOf("/proc", child.Process.Pid) != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an unreaped process counts as running")
		}
	}
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	for stat, want := range map[string]string{
		"7 (a) b) (c) S 1 1 1 0 -1 4 1 1 0 0 4 14 18 18 25 5 7 0 4711 99": "4711",
		"7 (a) Z 1 1 1 0 -1 4 1 1 0 0 4 14 18 18 25 5 7 0 4711 99":        "",
		"7 (a) S 1": "",
		"":          "",
	} {
		if err := os.WriteFile(filepath.Join(proc, "7", "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := lifeOf(proc, 7); got != want {
			t.Errorf("%q: %q, want %q", stat, got, want)
		}
	}
}
