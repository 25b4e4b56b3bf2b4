package phone

import (
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// The tests in this file check commands after mistakes and failures elsewhere, with a guest that
// boots at once.

// TestMistakeInTheSettings checks that an error in settings.json blocks neither stop nor remove.
func TestMistakeInTheSettings(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	before := h.Snapshot()
	h.Do("up", "sql")
	h.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5,}`, 0o644)
	for _, verb := range []string{"up", "restart"} {
		if o := h.Runner(verb, "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "settings.json") {
			t.Errorf("%s: %v", verb, o)
		}
	}
	h.Put(phonepath.Default.Settings(), `{}`, 0o644)
	h.Do("up", "sql")
	h.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5,}`, 0o644)
	if o := h.Do("down", "sql"); !strings.Contains(o.Stderr, "warning: settings.json: ") || !strings.Contains(h.Logs(), "shut down in order") {
		t.Errorf("down: %v", o)
	}
	phonetest.SameNetwork(t, "after down", before, h.Snapshot())
	if o := h.Do("remove", "sql"); !strings.Contains(o.Stderr, "warning: settings.json: ") {
		t.Errorf("remove: %v", o)
	}
	phonetest.Left(t, h, "removed", "./settings.json")
}

// TestRemoveForce checks that remove removes nothing if one part cannot be undone. With --force, it
// removes everything else and reports what is left.
func TestRemoveForce(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{"shutdown_timeout": 1}`)
	h.Do("up", "sql")
	h.Shell("kill -9 " + strings.TrimSpace(h.Shell("pidof sov-runner")))
	h.Shell("mv /system/bin/iptables /system/bin/iptables-restore /system/bin/iptables-save /data/local")
	if o := h.Runner("remove", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "iptables") {
		t.Fatalf("remove: %v", o)
	}
	if _, err := os.Stat(h.File(h.VM.Slot("a"))); err != nil {
		t.Errorf("it has removed the machine all the same: %v", err)
	}
	o := h.Runner("remove", "sql", "--force")
	if o.Status != 1 || !strings.Contains(o.Stdout, "sql is removed") || !strings.Contains(o.Stderr, "left: the machine's place in the phone's network: ") {
		t.Errorf("remove --force: %v", o)
	}
	phonetest.Left(t, h, "forced", "./bin/sov-runner ./network.json ./network.json.lock ./settings.json")
	h.Shell("mv /data/local/iptables* /system/bin")
	h.Do("remove", "sql")
}

// TestStartTimesOut checks that up returns when its timeout expires. The machine continues to
// start, and a second up does not restart it.
func TestStartTimesOut(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{Deaf: []string{"endpoint"}}, `{"shutdown_timeout": 1}`)
	o := h.Runner("up", "sql", "--timeout", "2s")
	if o.Status != 1 || !strings.Contains(o.Stderr, "the machine is not ready within 2s: booting") {
		t.Errorf("up: %v", o)
	}
	first := h.Status()
	if first.Phase != runnerapi.Booting || !first.DaemonAlive || !first.CrosvmAlive {
		t.Errorf("after it: %+v", first)
	}
	if o := h.Runner("up", "sql", "--timeout", "1s"); o.Status != 1 || !strings.Contains(o.Stderr, "not ready within 1s") {
		t.Errorf("up again: %v", o)
	}
	if s := h.Status(); s.Daemon != first.Daemon || s.Crosvm != first.Crosvm || s.Restarts != 0 {
		t.Errorf("a second start touched the machine: %+v, before %+v", s, first)
	}
	h.Do("down", "sql")
	h.Script(h.VM, lightguest.Script{})
	h.Do("up", "sql")
	ready := h.Status()
	h.Do("up", "sql")
	if s := h.Status(); s.Daemon != ready.Daemon || s.Crosvm != ready.Crosvm || s.Restarts != 0 || s.Phase != runnerapi.Ready {
		t.Errorf("a start of what is ready touched it: %+v, before %+v", s, ready)
	}
	h.Do("down", "sql")
}

// TestDiesBeforeItsConsole checks that the last messages of a guest that dies before its console
// works are in a separate log and in the status.
func TestDiesBeforeItsConsole(t *testing.T) {
	t.Parallel()
	const panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{End: lightguest.BarePanic, Early: "[    0.000000] Booting Linux\n[    0.300000] " + panic + "\n"}, `{"crash_loop": 2}`)
	if o := h.Runner("up", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, panic) {
		t.Errorf("up: %v", o)
	}
	if s := h.Status(); s.Phase != runnerapi.CrashLoop || !strings.Contains(s.Reason, "(the last on its early console: "+panic+")") {
		t.Errorf("status: %+v", s)
	}
	if o := h.Do("logs", "sql"); strings.Count(o.Stdout, "Booting Linux") != 1 || !strings.Contains(o.Stdout, panic) {
		t.Errorf("logs: %v", o)
	}
	h.Do("down", "sql")
}
