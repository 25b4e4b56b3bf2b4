package phone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestAwake checks that the phone is kept awake while the machine runs, according to its mode.
func TestAwake(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string][2]bool{"always": {true, true}, "charging": {false, true}, "never": {false, false}} { // discharging, charging
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{"shutdown_timeout": 1, "vms": {"sql": {"awake": "`+mode+`"}}}`)
			held := func() bool { return slices.Equal(h.WakeLocks(), []string{"sov_sql"}) }
			free := func() bool { return len(h.WakeLocks()) == 0 }
			as := func(hold bool) func() bool {
				if hold {
					return held
				}
				return free
			}
			h.Do("up", "sql")
			h.Eventually("as it should be while it discharges", as(want[0]))
			h.SetBattery(80, "Charging")
			h.Eventually("as it should be while it charges", as(want[1]))
			if s := h.Status(); (s.Awake != nil && s.Awake.Held) != want[1] || s.Power.Battery != 80 || !s.Power.Charging || len(s.Thermal) != 1 {
				t.Errorf("status: %+v, %+v", s.Awake, s.Power)
			}
			h.Shell(fmt.Sprintf("kill -9 %d", h.Status().Daemon))
			h.Do("down", "sql")
			h.Eventually("let go", free)
			if mode == "always" {
				h.Do("up", "sql")
				h.Eventually("held again", held)
				h.Do("down", "sql")
				h.Eventually("let go in order", free)
			}
		})
	}
}

// TestNoWakeLocks checks that the machine runs on a kernel without wake locks.
func TestNoWakeLocks(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{"shutdown_timeout": 1}`)
	h.Shell("rm /sys/power/wake_lock /sys/power/wake_unlock")
	h.Do("up", "sql")
	h.Eventually("said so", func() bool { s := h.Status(); return s.Awake != nil && !s.Awake.Held && s.Awake.Fault != "" })
	if o := h.Do("status", "sql"); !strings.Contains(o.Stdout, "the phone may sleep, and the machine with it: ") {
		t.Errorf("status: %v", o)
	}
	h.Do("down", "sql")
}

// TestBattery checks that a machine shuts down cleanly before the battery is empty, and starts
// again when the battery is sufficiently charged.
func TestBattery(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLightOn(t, androidtest.Options{Superuser: androidtest.KernelSU}, vmspec.MainFirst, lightguest.Script{}, `{"shutdown_timeout": 5}`)
	before := h.Snapshot()
	h.Do("up", "sql")
	o := h.Do("status", "sql")
	for _, line := range []string{"battery    80 %, discharging\n", "awake      the phone is kept from sleeping (always)\n", "thermal    battery: 31200, as the kernel shows it\n", ", KernelSU, kvm.arm-protected\n"} {
		if !strings.Contains(o.Stdout, line) {
			t.Errorf("status lacks %q: %s", line, o.Stdout)
		}
	}
	h.SetBattery(5, "Discharging")
	h.SetBattery(4, "Charging") // with a weak charger
	h.Do("up", "sql")
	h.SetBattery(4, "Discharging")
	h.Eventually("stopped", func() bool { return h.Status().Phase == runnerapi.LowBattery })
	if s := h.Status(); s.CrosvmAlive || s.Failures != 0 || !strings.Contains(s.Reason, "the battery is at 4 %") || !strings.Contains(h.Logs(), "the guest shut down in order") {
		t.Errorf("stopped: %+v\n%s", s, h.Logs())
	}
	phonetest.SameNetwork(t, "while it is stopped", before, h.Snapshot())
	h.Eventually("asleep", func() bool { return len(h.WakeLocks()) == 0 })
	if o := h.Runner("up", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "low-battery: the battery is at 4 %") {
		t.Errorf("up: %v", o)
	}
	if r := h.Diagnose(); r.Cause != "process" || r.Layers[0].Fixable {
		t.Errorf("diagnose: %+v", r.Layers[0])
	}
	h.SetBattery(16, "Charging")
	h.Eventually("started again", func() bool { return h.Status().Phase == runnerapi.Ready })
	h.Do("down", "sql")
}
