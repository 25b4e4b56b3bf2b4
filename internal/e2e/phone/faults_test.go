package phone

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// releasePort is the port of the internet's server at which a fault in the guest waits for its end.
const releasePort = 9

// faults are the faults in each layer. The daemon is suspended while a fault is made on the phone,
// because it would repair the fault before diagnose can observe it.
var faults = []struct {
	name    string
	phone   string // script on the phone; PID is crosvm's
	guest   string // script in the guest, as root
	passes  bool   // ends when the phone's server at releasePort hangs up; otherwise a restart of the machine undoes a guest's fault
	layer   string
	fixable bool
}{
	{"TAP deleted", "ip link del vm_sql", "", false, diagnose.TAP, true},
	{"TAP down", "ip link set vm_sql down", "", false, diagnose.TAP, true},
	{"rule deleted", "ip rule del pref 1", "", false, diagnose.Routing, true},
	{"way out deleted", "ip rule del pref 2 2>/dev/null || ip route del default", "", false, diagnose.Routing, true},
	{"chain flushed", "$IPTABLES -w -F sov_sql_fwd", "", false, diagnose.Forwarding, true},
	{"forwarding off", "echo 0 >/proc/sys/net/ipv4/ip_forward", "", false, diagnose.Forwarding, true},
	{"VM killed", "kill -9 PID", "", false, diagnose.Process, true},
	// A restart would take half a minute to kill the suspended server. Instead, a process started
	// before resumes it.
	{"PostgreSQL suspended", "", "p=$(head -n 1 /data/postgres/postmaster.pid); kill -STOP $p; nc " + androidtest.ServerIP + " " + fmt.Sprint(releasePort) + " </dev/null; kill -CONT $p", true, diagnose.Postgres, false},
	{"PostgreSQL stopped", "", "p=$(head -n 1 /data/postgres/postmaster.pid); mount --bind /dev/null $(readlink /proc/$p/exe); kill -INT $p", false, diagnose.Postgres, false},
	{"clock ahead", "", "date -s 2035-01-01", false, diagnose.GuestClock, false},
	{"guest's default route deleted", "", "ip route del default", false, diagnose.GuestNetwork, false},
	{"guest network down", "", "ip link set eth0 down", false, diagnose.GuestNetwork, false},
}

// TestDiagnoseNamesTheLayer breaks each layer. diagnose must name the layer, and repair faults of
// the phone.
func TestDiagnoseNamesTheLayer(t *testing.T) {
	t.Parallel()
	h := phonetest.NewWith(t, sovtest.Artifact(t, "arm64"), androidtest.Options{}, "")
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	h.Serve(releasePort, func(net.Conn) { <-held })
	h.Do("up", "sql")
	if report := h.Diagnose(); report.Cause != "" {
		t.Fatalf("before anything was broken: %+v", report)
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			h.Ready()
			if fault.guest != "" {
				h.GuestBackground(fault.guest)
			}
			resume := func() {}
			if fault.phone != "" {
				resume = h.Suspend()
				h.Shell(strings.ReplaceAll(fault.phone, "PID", fmt.Sprint(h.Status().Crosvm)))
			}
			var report *health.Machine
			h.Eventually("seen", func() bool { report = h.Diagnose(); return report.Cause != "" })
			if report.Cause != fault.layer {
				t.Errorf("the cause is %s, want %s: %+v", report.Cause, fault.layer, report.Layers)
			}
			for _, l := range report.Layers {
				if l.Check == fault.layer {
					t.Logf("%s: %s (%s)", l.Title, l.Found, l.Cause)
					if l.Fixable != fault.fixable {
						t.Errorf("fixable: %v, want %v", l.Fixable, fault.fixable)
					}
				} else if l.Verdict == finding.Failed && l.ConsequenceOf == "" {
					t.Errorf("%s is broken by itself: %s", l.Title, l.Found)
				}
			}
			resume()
			if fault.fixable {
				h.Eventually("repaired", func() bool { return h.Diagnose("--fix").Cause == "" })
				return
			}
			if fault.passes {
				release()
			} else {
				h.Do("restart", "sql")
			}
			if fault.name == "guest network down" && !strings.Contains(h.RunnerLog(), "the guest shut down when it was asked at its console") {
				t.Error("a guest without a network was not asked at its console")
			}
			h.Eventually("whole again", func() bool { return h.Diagnose().Cause == "" })
		})
	}
	checkSleep(h)
	checkServiceLog(h)
	h.Do("down", "sql")
}

// checkServiceLog checks PostgreSQL's log of this boot and of earlier ones.
func checkServiceLog(h *phonetest.Handset) {
	h.T.Helper()
	log := h.Do("logs", "sql", "--service", "postgres", "-n", "10000").Stdout
	if n := strings.Count(log, "database system is ready to accept connections"); n < 2 || strings.Contains(log, " init: ") {
		h.T.Errorf("PostgreSQL's log tells of %d starts, and the machine was restarted:\n%s", n, log)
	}
	if o := h.Runner("logs", "sql", "--service", "stranger"); o.Status != 1 || !strings.Contains(o.Stderr, "there is no service stranger") {
		h.T.Errorf("the log of a service that is none: %v", o)
	}
}

// checkSleep sets the guest's clock back, as when the phone sleeps. The daemon must detect and
// correct it.
func checkSleep(h *phonetest.Handset) {
	h.T.Helper()
	h.Ready()
	h.Eventually("corrected", func() bool {
		if strings.Contains(h.RunnerLog(), "the guest's clock was behind and was corrected") {
			return true
		}
		// The guest also checks its clock and may correct it first.
		if guest := h.Status().Guest; guest != nil && time.Since(guest.Time) < guesttest.ClockLimit {
			h.GuestShell("date -s 2020-01-01")
		}
		return false
	})
	var guest *health.Guest
	var off time.Duration
	h.Eventually("answering", func() bool {
		asked := time.Now()
		guest = h.Status().Guest
		if guest != nil {
			off = guesttest.Outside(guest.Time, asked, time.Now())
		}
		return guest != nil
	})
	if off > guesttest.ClockLimit || guest.Clock == nil || guest.Clock.Source != "sntp" || guest.Clock.Fault != "" {
		h.T.Errorf("after the phone slept the guest's clock is off by %v: %+v", off, guest.Clock)
	}
}

// TestAndroidsKillers checks the runner against Android's treatment of processes that are not its
// services. Nothing starts before Android has booted. Processes of a service or of adbd end with
// it, but the machine has left its control group. A crosvm whose daemon was killed keeps running
// until the next start shuts it down. The phone has an old crosvm.
func TestAndroidsKillers(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLightOn(t, androidtest.Options{StillBooting: true, Build: androidtest.DefaultBuild(crosvmcli.Android13)}, vmspec.MainFirst, lightguest.Script{}, `{"shutdown_timeout": 5}`)
	if err := h.RunService(t.Context(), phonepath.Default.Runner(), "up", "sql", "--no-wait"); err != nil {
		t.Fatal(err)
	}
	h.Eventually("waiting for Android", func() bool { return strings.Contains(h.Logs(), "Android is still starting") })
	if s := h.Status(); s.Phase != runnerapi.Starting || s.CrosvmAlive || !s.DaemonAlive {
		t.Errorf("while Android starts: %+v", s)
	}
	h.SetProp("sys.boot_completed", "1")
	h.Do("up", "sql")
	s := h.Status()
	// A container may lack CAP_SYS_RESOURCE to protect processes. The runner must then report that.
	mayProtect := strings.Contains(h.Shell("(echo -1000 >/proc/self/oom_score_adj) 2>/dev/null && echo yes || echo no"), "yes")
	for _, pid := range []int{s.Daemon, s.Crosvm} {
		got := strings.TrimSpace(h.Shell(fmt.Sprintf("cat /proc/%d/oom_score_adj", pid)))
		if mayProtect && got != "-1000" || !mayProtect && !strings.Contains(h.RunnerLog(), fmt.Sprintf("protect process %d", pid)) {
			t.Errorf("oom_score_adj of %d is %s", pid, got)
		}
		if got := h.Shell(fmt.Sprintf("tail -n 1 /proc/%d/cgroup", pid)); got != "0::/\n" {
			t.Errorf("process %d is in the control group %s", pid, got)
		}
	}
	h.Shell(fmt.Sprintf("kill -9 %d", s.Daemon))
	h.Eventually("missing its daemon", func() bool { return h.Diagnose().Cause == diagnose.Process }) // whose death takes time
	if now := h.Status(); !now.CrosvmAlive {
		t.Errorf("crosvm died with its daemon: %+v", now)
	}
	h.Do("up", "sql")
	h.Eventually("answering again", func() bool { return h.Status().Phase == runnerapi.Ready })
	if calls := append(h.Calls("device_config"), h.Calls("settings")...); len(calls) > 0 {
		t.Errorf("settings of the whole phone were changed: %q", calls)
	}
	h.Do("down", "sql")
	h.Put(phonepath.Default.Settings(), `{"lift_phantoms": true}`, 0o644)
	h.Do("up", "sql")
	h.Eventually("without the killer of phantoms", func() bool { return len(h.Calls("device_config"))+len(h.Calls("settings")) == 3 })
	h.Do("restart", "sql")
	if calls := append(h.Calls("device_config"), h.Calls("settings")...); len(calls) != 3 {
		t.Errorf("the second start changed Android's settings again: %q", calls)
	}
	h.Do("down", "sql")
}

// TestCrashLoop checks that a machine that cannot start ends in the phase crash-loop and is not
// restarted.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, `, "crash_loop": 2`)
	text, err := os.ReadFile(filepath.Join(h.File(h.VM.Slot("a")), "vm.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "init=/sbin/sov-init", "init=/nowhere", 1)
	if changed == string(text) {
		t.Fatalf("vm.json does not name the guest's init: %s", text)
	}
	h.Alter(h.VM, "vm.json", []byte(changed))
	o := h.Runner("up", "sql")
	if o.Status != 1 || !strings.Contains(o.Stderr, "crash-loop") || !strings.Contains(o.Stderr, "panic") {
		t.Errorf("a kernel that panics: %v", o)
	}
	if s := h.Status(); s.Phase != runnerapi.CrashLoop || s.CrosvmAlive || s.LastExit.Kind != "panic" {
		t.Errorf("a kernel that panics: %+v", s)
	}
	h.Alter(h.VM, "vm.json", text)
	h.Do("up", "sql")
	h.Do("down", "sql")
}
