package phone

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/canary"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestEncryptedOnThePhone tests a machine whose data disk's key is stored only on the computer,
// from the first push to a change of the key. The machine waits for the key after a reboot of the
// phone, but not while its daemon runs.
func TestEncryptedOnThePhone(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	key := canary.New()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	sov := func(want int, args ...string) sovtest.Outcome {
		t.Helper()
		o := p.Sov(append(args, "--device", p.ADB.Serial())...)
		if o.Status != want {
			t.Fatalf("sov %s: want status %d: %v\n%s", strings.Join(args, " "), want, o, p.Logs())
		}
		return o
	}
	p.SovWith(key.Text, "secrets", "set", "sql", "data-key")
	p.SovWith(phonetest.Password, "secrets", "set", "sql", "postgres")
	p.Push(sovtest.Encrypted(t, "arm64", "host"), "--start")
	s := p.Status()
	if s.Phase != runnerapi.Ready || len(s.Disks) != 1 || s.Disks[0].Encryption != guestapi.LUKS2 {
		t.Fatalf("after the first start: %+v\n%s", s, p.Logs())
	}
	p.Ask("create table journey (stop text); insert into journey values ('version 1')")
	wantNoKey := func(when string) {
		t.Helper()
		if found := key.InFiles(t, begin, p.File(string(phonepath.Default))); len(found) > 0 {
			t.Errorf("%s, the key stands in %q", when, found)
		}
		if said := p.Shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"); key.In([]byte(said)) {
			t.Errorf("%s, the key stands in arguments or the environment", when)
		}
	}
	wantNoKey("while it runs")

	// The guest is killed. The daemon has the key.
	p.Shell(fmt.Sprintf("kill -9 %d", s.Crosvm))
	p.Within(5*time.Minute, time.Second, "ready again", func() bool { now := p.Status(); return now.Phase == runnerapi.Ready && now.Restarts == 1 })

	p.Reboot()
	if o := p.Runner("up", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "locked") || !strings.Contains(o.Stderr, "`sov start sql`") {
		t.Errorf("after a reboot: %v", o)
	}
	s = p.Status()
	if s.Phase != runnerapi.Locked || s.CrosvmAlive || s.Restarts != 0 || s.Failures != 0 || !strings.Contains(s.Reason, "`sov start sql`") ||
		len(s.Disks) != 1 || s.Disks[0].Encryption != guestapi.LUKS2 {
		t.Errorf("after a reboot: %+v", s)
	}
	sov(0, "start", "sql")
	if got := p.Ask("select stop from journey"); len(got) != 1 || got[0] != "version 1" {
		t.Errorf("the data: %q", got)
	}

	if o := sov(0, "rekey", "sql"); !strings.Contains(o.Stderr, "a new key of sql is kept") {
		t.Errorf("rekey: %v", o)
	}
	if s := p.Status(); s.Phase != runnerapi.Ready || s.Disks[0].OldKey {
		t.Errorf("with a new key: %+v", s)
	}
	sov(0, "stop", "sql")
	if o := p.Sov("secrets", "rm", "sql", "data-key-old"); o.Status != 0 {
		t.Error(o)
	}
	// The new key is lost: the old key does not open the disk.
	if o := p.Sov("secrets", "set", "sql", "data-key"); o.Status != 1 || !strings.Contains(o.Stderr, "sov rekey") {
		t.Errorf("a key in place of another: %v", o)
	}
	if o := p.Sov("secrets", "rm", "sql", "data-key"); o.Status != 0 {
		t.Error(o)
	}
	p.SovWith(key.Text, "secrets", "set", "sql", "data-key")
	if o := sov(1, "start", "sql"); !strings.Contains(o.Stderr, "the key does not open it") || strings.Contains(o.Stderr, "within") { // it ends before its timeout
		t.Errorf("with the old key: %v", o)
	}
	sov(0, "stop", "sql")
	wantNoKey("at the end")
	if left := p.Shell("ls -A " + p.VM.Run()); strings.Contains(left, "keys.sock") {
		t.Errorf("stop left %q", left)
	}
	if _, err := os.Stat(p.File(p.VM.Data())); err != nil {
		t.Error(err)
	}
}

// TestLocked checks that a machine whose data disk's key is not stored on the phone waits for it
// without a start. The machine accepts the key from a caller that may run sov-runner as root, and
// keeps it while its daemon runs. Its volumes are created, kept and removed with the data disk.
func TestLocked(t *testing.T) {
	t.Parallel()
	key := canary.New()
	begin := time.Now()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	path := filepath.Join(h.File(h.VM.Current()), artifact.SpecFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	spec.Disks = append(spec.Disks, vmspec.Disk{Role: vmspec.RoleData, Size: 256 << 20, Key: vmspec.KeyOnHost},
		vmspec.Disk{Role: vmspec.RoleVolume, Name: "media", Size: 256 << 20, Key: vmspec.KeyOnHost}, vmspec.Disk{Role: vmspec.RoleVolume, Name: "cold", Size: 256 << 20})
	if text, err = spec.Encode(); err != nil {
		t.Fatal(err)
	}
	h.Alter(h.VM, artifact.SpecFile, text)
	before := h.Snapshot()
	locked := func(when string) {
		t.Helper()
		if o := h.Runner("up", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "locked: the key of its data disk is not on this phone: `sov start sql`") {
			t.Errorf("%s: %v", when, o)
		}
		if s := h.Status(); s.Phase != runnerapi.Locked || s.CrosvmAlive || s.Restarts != 0 || s.Failures != 0 {
			t.Errorf("%s: %+v", when, s)
		}
		phonetest.SameNetwork(t, when, before, h.Snapshot())
	}
	unlock := func(keys string) sovtest.Outcome {
		t.Helper()
		command := h.Command(t.Context(), phonepath.Default.Runner(), "up", "sql", "--keys")
		command.Stdin = strings.NewReader(keys)
		o, err := sovtest.Finish(command)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	locked("at first")
	locked("again")
	if o := unlock(`{"postgres": "x"}`); o.Status != 1 || h.Status().Phase != runnerapi.Locked {
		t.Errorf("without a key: %v", o)
	}
	if o := unlock(`{"data-key": "` + key.Text + `"}`); o.Status != 0 {
		t.Fatalf("with the key: %v\n%s", o, h.Logs())
	}
	if got := strings.TrimSpace(h.Shell("cd " + h.VM.Dir() + " && stat -c '%n %a %s' data.img volumes/*")); got != "data.img 600 268435456\nvolumes/cold.img 600 268435456\nvolumes/media.img 600 268435456" {
		t.Errorf("the disks are %s", got)
	}
	var disks []string
	for _, d := range h.Status().Disks {
		disks = append(disks, d.Name)
	}
	if got := strings.Join(disks, " "); got != "data cold media" {
		t.Errorf("the status has the disks %s", got)
	}
	h.Shell(fmt.Sprintf("kill -9 %d", h.Status().Crosvm))
	h.Eventually("ready again", func() bool { s := h.Status(); return s.Phase == runnerapi.Ready && s.Restarts == 1 })
	h.Eventually("without the config disk", func() bool { _, err := os.Stat(h.File(h.VM.ConfigDisk())); return os.IsNotExist(err) })
	if found := key.InFiles(t, begin, h.File(string(phonepath.Default))); len(found) > 0 {
		t.Errorf("the key stands in %q", found)
	}
	status := h.Shell(fmt.Sprintf("grep -E 'VmLck|VmRSS' /proc/%d/status", h.Status().Daemon))
	if strings.Contains(status, "VmLck:\t       0 kB") {
		t.Errorf("nothing of the daemon is locked: %s", status)
	}
	h.Do("down", "sql")
	if left := h.Shell("ls -A " + h.VM.Run()); strings.Contains(left, "keys") {
		t.Errorf("down left %q", left)
	}
	locked("after down")
	// The same from a computer that stores the key.
	server := androidtest.NewADBServer(t)
	server.Connect(h.ServeADB(androidtest.ADBOptions{}))
	config := t.TempDir()
	sov := func(in string, args ...string) sovtest.Outcome {
		t.Helper()
		return sovtest.Run(t, func(c *exec.Cmd) {
			c.Env = append(os.Environ(), "PATH="+filepath.Dir(server.Program())+":"+os.Getenv("PATH"), "ANDROID_SERIAL=", "SOV_CONFIG_DIR="+config)
			c.Stdin = strings.NewReader(in)
		}, args...)
	}
	if o := sov("", "start", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "is not on this phone") {
		t.Errorf("from a computer that does not keep the key: %v", o)
	}
	if o := sov(key.Text, "secrets", "set", "sql", "data-key"); o.Status != 0 {
		t.Fatal(o)
	}
	if o := sov("", "start", "sql"); o.Status != 0 {
		t.Errorf("from a computer that keeps it: %v\n%s", o, h.Logs())
	}
	// This guest has no encrypted disk whose key could change.
	if o := sov("", "rekey", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "a new key of sql is kept") || !strings.Contains(o.Stderr, "may still have the old key") {
		t.Errorf("rekey: %v", o)
	}
	if s := h.Status(); s.Phase != runnerapi.Ready {
		t.Errorf("after rekey: %+v", s)
	}
	for _, data := range []bool{false, true} {
		args := []string{"remove", "sql", "--yes"}
		if data {
			args = append(args, "--data")
		}
		if o := sov("", args...); o.Status != 0 {
			t.Fatalf("%q: %v", args, o)
		}
		for _, path := range []string{h.VM.Data(), h.VM.Volume("media"), h.VM.Volume("cold")} {
			if _, err := os.Stat(h.File(path)); (err == nil) == data {
				t.Errorf("%q: %s: %v", args, path, err)
			}
		}
	}
}
