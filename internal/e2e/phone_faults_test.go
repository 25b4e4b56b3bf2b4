package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/diagnose"
	"github.com/sovereign-sql/sov/internal/guestapi"
	"github.com/sovereign-sql/sov/internal/runnerapi"
)

// saboteur is a service for the sql recipe that does, as root, what the database's user writes into a pipe.
const saboteur = `
services:
  - name: saboteur
    command: [/bin/sh, -c, "mkfifo -m 622 /run/sabotage; while :; do /bin/sh </run/sabotage; done"]
`

// sabotageable builds the sql recipe with the saboteur in it. Its control server would be at the discard port of the
// machine's host, where nobody answers: the tests do not bother Tailscale's own.
var sabotageable = sync.OnceValues(func() (string, outcome) {
	return onTailnet("arm64", "sabotage", "http://192.168.100.1:9", "publish: [5432]", "publish: [5432]\n"+saboteur)
})

// releasePort is one of the internet's server at which a fault in the guest waits for its end.
const releasePort = 9

// faults are what goes wrong in each layer. Those of the phone are made while the daemon, which would repair them
// before anybody could look, stands still.
var faults = []struct {
	name    string
	phone   string // script on the phone; PID is crosvm's
	guest   string // script in the guest, as root
	passes  bool   // once the phone's server at releasePort hangs up; else a restart of the machine undoes what is the guest's
	layer   diagnose.Layer
	fixable bool
}{
	{"TAP deleted", "ip link del vm_sql", "", false, diagnose.TAP, true},
	{"TAP down", "ip link set vm_sql down", "", false, diagnose.TAP, true},
	{"rule deleted", "ip rule del pref 1", "", false, diagnose.Routing, true},
	{"default route deleted", "ip route del default", "", false, diagnose.Routing, true},
	{"chain flushed", "$IPTABLES -w -F sov_sql_fwd", "", false, diagnose.Forwarding, true},
	{"forwarding off", "echo 0 >/proc/sys/net/ipv4/ip_forward", "", false, diagnose.Forwarding, true},
	{"VM killed", "kill -9 PID", "", false, diagnose.Process, true},
	// It takes its own half a minute to be killed at a restart, so it is let go on instead, by a process started before.
	{"PostgreSQL suspended", "", "p=$(head -n 1 /data/postgres/postmaster.pid); kill -STOP $p; (nc " + androidtest.ServerIP + " " + fmt.Sprint(releasePort) + " </dev/null; kill -CONT $p) &", true, diagnose.Postgres, false},
	{"PostgreSQL stopped", "", "p=$(head -n 1 /data/postgres/postmaster.pid); mount --bind /dev/null $(readlink /proc/$p/exe); kill -INT $p", false, diagnose.Postgres, false},
	{"clock ahead", "", "date -s 2035-01-01", false, diagnose.GuestClock, false},
	{"guest's default route deleted", "", "ip route del default", false, diagnose.GuestNetwork, false},
	{"guest network down", "", "ip link set eth0 down", false, diagnose.GuestNetwork, false},
}

// Each layer broken on purpose: diagnose names it, and repairs it where it is the phone's.
func TestDiagnoseNamesTheLayer(t *testing.T) {
	t.Parallel()
	dir, result := sabotageable()
	if result.status != 0 {
		t.Fatal(result)
	}
	h := newHandset(t, androidtest.Options{}, "")
	if err := os.RemoveAll(h.File(h.vm.Dir())); err != nil {
		t.Fatal(err)
	}
	h.vm = h.Install(dir, "sql")
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	h.Serve(releasePort, func(net.Conn) { <-held })
	h.do("up", "sql")
	if report := h.diagnose(); report.Broken() {
		t.Fatalf("before anything was broken: %+v", report)
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			h.ready()
			if fault.guest != "" {
				h.sabotage(fault.guest)
			}
			resume := func() {}
			if fault.phone != "" {
				resume = h.suspend()
				h.Shell(strings.ReplaceAll(fault.phone, "PID", fmt.Sprint(h.status().Crosvm)))
			}
			var report diagnose.Report
			h.eventually("seen", func() bool { report = h.diagnose(); return report.Broken() })
			if report.Cause != fault.layer {
				t.Errorf("the cause is %s, want %s: %+v", report.Cause, fault.layer, report.Layers)
			}
			for _, l := range report.Layers {
				if l.Layer == fault.layer {
					t.Logf("%s: %s (%s)", l.Title, l.Found, l.Cause)
					if l.Fixable != fault.fixable {
						t.Errorf("fixable: %v, want %v", l.Fixable, fault.fixable)
					}
				} else if l.Verdict == diagnose.Broken && l.ConsequenceOf == "" {
					t.Errorf("%s is broken by itself: %s", l.Title, l.Found)
				}
			}
			resume()
			if fault.fixable {
				h.eventually("repaired", func() bool { return !h.diagnose("--fix").Broken() })
				return
			}
			if fault.passes {
				release()
			} else {
				h.do("restart", "sql")
			}
			h.eventually("whole again", func() bool { return !h.diagnose().Broken() })
		})
	}
	checkSleep(h)
	checkServiceLog(h)
	h.do("down", "sql")
}

// sabotage lets the saboteur run a script. The guest may be cut off before it has said that it passed it on.
func (h *handset) sabotage(script string) {
	h.t.Helper()
	conn := h.connect()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	defer conn.Close(ctx)
	if err := tellSaboteur(ctx, conn, script); err != nil {
		h.t.Logf("the saboteur's answer: %v", err)
	}
}

// checkServiceLog reads what PostgreSQL said, in this boot and in those before.
func checkServiceLog(h *handset) {
	h.t.Helper()
	log := h.do("logs", "sql", "--service", "postgres", "-n", "10000").stdout
	if n := strings.Count(log, "database system is ready to accept connections"); n < 2 || strings.Contains(log, " init: ") {
		h.t.Errorf("PostgreSQL's log tells of %d starts, and the machine was restarted:\n%s", n, log)
	}
	if o := h.runner("logs", "sql", "--service", "stranger"); o.status != 1 || !strings.Contains(o.stderr, "there is no service stranger") {
		h.t.Errorf("the log of a service that is none: %v", o)
	}
}

// checkSleep lets the guest's clock fall behind, as it does while the phone sleeps: the daemon sees it and has it corrected.
func checkSleep(h *handset) {
	h.t.Helper()
	h.ready()
	h.eventually("corrected", func() bool {
		if strings.Contains(h.runnerLog(), "the guest's clock was behind and was corrected") {
			return true
		}
		// The guest looks by itself as well, and may have been the first.
		if guest := h.status().Guest; guest != nil && time.Since(guest.Time) < clockLimit {
			h.sabotage("date -s 2020-01-01")
		}
		return false
	})
	var guest *guestapi.Status
	var off time.Duration
	h.eventually("answering", func() bool {
		asked := time.Now()
		guest = h.status().Guest
		if guest != nil {
			off = outside(guest.Time, asked, time.Now())
		}
		return guest != nil
	})
	if off > clockLimit || guest.Clock == nil || guest.Clock.Source != "sntp" || guest.Clock.Fault != "" {
		h.t.Errorf("after the phone slept the guest's clock is off by %v: %+v", off, guest.Clock)
	}
}

// runnerLog is what the runner wrote on the phone.
func (h *handset) runnerLog() string {
	text, _ := os.ReadFile(h.File(h.vm.Log()))
	return string(text)
}

// The real image, killed again and again at whatever moment: it comes up again, there is one set of rules however often it
// is started, and down leaves the phone as it was.
func TestImageSurvivesKills(t *testing.T) {
	t.Parallel()
	h := newHandset(t, androidtest.Options{}, `, "shutdown_timeout": 1`)
	before := h.Snapshot()
	h.do("up", "sql")
	up := h.Snapshot()
	random := rand.New(rand.NewPCG(2, 2))
	for range 10 {
		h.killSomebody(random, 1500*time.Millisecond)
	}
	h.startedAgain("started again ten times", up)
	h.do("down", "sql")
	same(t, "after down", before, h.Snapshot())
}

// killSomebody starts the machine and kills its daemon, crosvm or both with SIGKILL, at a moment before late is over.
func (h *handset) killSomebody(random *rand.Rand, late time.Duration) {
	h.t.Helper()
	h.do("up", "sql", "--no-wait")
	pause := time.NewTimer(time.Duration(random.Int64N(int64(late)))) // the moment is what is tried out
	<-pause.C
	who := [][]string{{"sov-runner"}, {"crosvm"}, {"sov-runner", "crosvm"}, {"crosvm", "sov-runner"}}[random.IntN(4)]
	for _, name := range who {
		// By name, in the phone's own processes.
		h.Shell("for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = " + name + " ]; then kill -9 ${p#/proc/} 2>/dev/null || true; fi; done")
	}
}

// What Android does to what it does not know, and how the runner lives with it: nothing starts before Android has, the
// phantom-process killer is turned off once, a crosvm with its daemon lives, and one without is killed. Its crosvm is
// an old one.
func TestAndroidsKillers(t *testing.T) {
	t.Parallel()
	h := newHandset(t, androidtest.Options{StillBooting: true, OldCrosvm: true, UntrackedAfter: time.Second}, "")
	h.do("up", "sql", "--no-wait")
	h.eventually("waiting for Android", func() bool { return strings.Contains(h.logs(), "Android is still starting") })
	if s := h.status(); s.Phase != runnerapi.Starting || s.CrosvmAlive {
		t.Errorf("while Android starts: %+v", s)
	}
	h.SetProp("sys.boot_completed", "1")
	h.do("up", "sql")
	writes := func() (n int) {
		for _, program := range []string{"device_config", "settings"} {
			for _, call := range h.Calls(program) {
				if strings.HasPrefix(call, "put") || strings.HasPrefix(call, "set") {
					n++
				}
			}
		}
		return n
	}
	h.eventually("without its killer of phantoms", func() bool { return writes() == 3 }) // beside the machine's start
	s := h.status()
	// A container may lack the right to protect anything (CAP_SYS_RESOURCE), which is to be said then.
	mayProtect := strings.Contains(h.Shell("(echo -1000 >/proc/self/oom_score_adj) 2>/dev/null && echo yes || echo no"), "yes")
	for _, pid := range []int{s.Daemon, s.Crosvm} {
		got := strings.TrimSpace(h.Shell(fmt.Sprintf("cat /proc/%d/oom_score_adj", pid)))
		if mayProtect && got != "-1000" || !mayProtect && !strings.Contains(h.runnerLog(), fmt.Sprintf("protect process %d", pid)) {
			t.Errorf("oom_score_adj of %d is %s", pid, got)
		}
	}
	if killed := h.Calls("killer"); len(killed) > 0 {
		t.Errorf("Android killed %q although the daemon lives", killed)
	}
	h.Shell(fmt.Sprintf("kill -9 %d", s.Daemon))
	h.eventually("missing its daemon", func() bool { return h.diagnose().Cause == diagnose.Process }) // which dies in its own time
	h.eventually("killed by Android", func() bool { return len(h.Calls("killer")) > 0 })
	h.do("up", "sql")
	h.eventually("answering again", func() bool { return h.status().Phase == runnerapi.Ready })
	if writes() != 3 {
		t.Error("the second start changed Android's settings again")
	}
	h.do("down", "sql")
}

// A machine that cannot start ends in a clear state, and the phone stays cool.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	h := newHandset(t, androidtest.Options{}, `, "crash_loop": 2`)
	kernel := filepath.Join(h.File(h.vm.Slot("a")), "vm.json")
	text, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	write := func(old, new string) {
		t.Helper()
		changed := strings.Replace(string(text), old, new, 1)
		if changed == string(text) {
			t.Fatalf("vm.json has no %s", old)
		}
		if err := os.WriteFile(kernel, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("init=/sbin/sov-init", "init=/nowhere")
	o := h.runner("up", "sql")
	if o.status != 1 || !strings.Contains(o.stderr, "crash-loop") || !strings.Contains(o.stderr, "panic") {
		t.Errorf("a kernel that panics: %v", o)
	}
	if s := h.status(); s.Phase != runnerapi.CrashLoop || s.CrosvmAlive || s.LastExit.Kind != "panic" {
		t.Errorf("a kernel that panics: %+v", s)
	}
	if err := os.WriteFile(kernel, text, 0o644); err != nil {
		t.Fatal(err)
	}
	h.do("up", "sql")
	h.do("down", "sql")
}
