package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/diagnose"
	"github.com/sovereign-sql/sov/internal/guestapi"
	"github.com/sovereign-sql/sov/internal/layout"
	"github.com/sovereign-sql/sov/internal/runnerapi"
	"github.com/sovereign-sql/sov/internal/vmspec"
)

// These tests are of the runner alone, with a guest that boots in no time and ends as it is told to.

// newLight returns a phone with a light machine; settings are the runner's.
func newLight(t testing.TB, routing vmspec.Routing, s lightguest.Script, settings string) *handset {
	t.Helper()
	h := &handset{Phone: androidtest.New(t, androidtest.Options{InMemory: true}), t: t}
	h.vm = h.InstallLight("sql", routing, s)
	h.put(layout.Default.Settings(), settings, 0o644)
	return h
}

var bothRoutings = []vmspec.Routing{vmspec.MainFirst, vmspec.Scoped}

// cycles of a start and a kill; what counts is what is left of them.
const cycles = 100

// Whoever is killed at whatever moment, down leaves the phone as it was, to the line.
func TestKilledInBetween(t *testing.T) {
	t.Parallel()
	for _, routing := range bothRoutings {
		t.Run(string(routing), func(t *testing.T) {
			t.Parallel()
			h := newLight(t, routing, lightguest.Script{}, `{"shutdown_timeout": 1}`)
			before := h.Snapshot()
			random := rand.New(rand.NewPCG(1, uint64(len(routing))))
			phases := map[runnerapi.Phase]int{}
			for i := range cycles {
				h.killSomebody(random, 600*time.Millisecond)
				phases[h.phaseOnDisk()]++
				h.do("down", "sql")
				same(t, fmt.Sprintf("cycle %d", i), before, h.Snapshot())
				if t.Failed() {
					t.Fatal(h.logs())
				}
			}
			t.Logf("killed while %v", phases)
		})
	}
}

// Without a down in between there is one set of rules, however often it is started.
func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for _, routing := range bothRoutings {
		t.Run(string(routing), func(t *testing.T) {
			t.Parallel()
			h := newLight(t, routing, lightguest.Script{}, `{"shutdown_timeout": 1}`)
			before := h.Snapshot()
			h.do("up", "sql")
			up := h.Snapshot()
			random := rand.New(rand.NewPCG(2, uint64(len(routing))))
			for i := range cycles {
				h.killSomebody(random, 600*time.Millisecond)
				h.startedAgain(fmt.Sprintf("start %d", i), up)
				if t.Failed() {
					t.Fatal(h.logs())
				}
			}
			h.do("down", "sql")
			same(t, "after down", before, h.Snapshot())
		})
	}
}

// startedAgain starts a machine of which somebody was killed, until the network is as in a snapshot: who was killed a moment
// ago may be taken for alive.
func (h *handset) startedAgain(what, want string) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		h.do("up", "sql")
		if now := h.Snapshot(); now == want || time.Now().After(deadline) {
			same(h.t, what, want, now)
			return
		}
	}
}

// A daemon that is on its way out still holds its lock: up is not taken in by it.
func TestUpWhileTheDaemonEnds(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{Deaf: []string{"guest"}}, `{"shutdown_timeout": 5}`)
	h.do("up", "sql")
	daemon := h.status().Daemon
	h.Shell(fmt.Sprintf("kill %d", daemon))
	h.eventually("stopping", func() bool { return h.status().Phase == runnerapi.Stopping })
	h.do("up", "sql")
	if s := h.status(); s.Daemon == daemon || s.Phase != runnerapi.Ready || !s.CrosvmAlive {
		t.Errorf("%+v", s)
	}
	h.do("down", "sql")
}

// settles waits until the phone's network is as in a snapshot.
func (h *handset) settles(what, want string) {
	h.t.Helper()
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		if now := h.Snapshot(); now == want || time.Now().After(deadline) {
			same(h.t, what, want, now)
			return
		}
	}
}

// phaseOnDisk is the phase that the daemon wrote last.
func (h *handset) phaseOnDisk() runnerapi.Phase {
	h.t.Helper()
	text, err := os.ReadFile(h.File(h.vm.State()))
	if err != nil {
		return "before the first state"
	}
	s, err := runnerapi.Decode(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return s.Phase
}

// Each of crosvm's ends, when the guest was never ready: what follows, and that the phone's network is left meanwhile.
func TestEnds(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind  string
		phase runnerapi.Phase
	}{
		0:  {"stopped", runnerapi.CrashLoop},
		1:  {"failed", runnerapi.CrashLoop},
		32: {"reset", runnerapi.CrashLoop},
		33: {"crash", runnerapi.CrashLoop},
		34: {"panic", runnerapi.CrashLoop},
		35: {"invalid-arguments", runnerapi.Failed},
		36: {"watchdog", runnerapi.CrashLoop},
	} {
		t.Run(want.kind, func(t *testing.T) {
			t.Parallel()
			h := newLight(t, vmspec.MainFirst, lightguest.Script{Panics: true, Status: status}, `{"crash_loop": 2}`)
			before := h.Snapshot()
			o := h.runner("up", "sql")
			if o.status != 1 || !strings.Contains(o.stderr, string(want.phase)) {
				t.Errorf("up: %v", o)
			}
			s := h.status()
			if s.Phase != want.phase || s.LastExit == nil || s.LastExit.Kind != want.kind || s.LastExit.Code != status || s.CrosvmAlive || !s.DaemonAlive {
				t.Errorf("status: %+v", s)
			}
			same(t, "while it is left alone", before, h.Snapshot())
			if report := h.diagnose(); report.Cause != diagnose.Process || report.Layers[1].Verdict != diagnose.Unknown {
				t.Errorf("diagnose: %+v", report)
			}
			// What was mended meanwhile counts at the next start, settings as well.
			h.Script(h.vm, lightguest.Script{})
			h.put(layout.Default.Settings(), `{"vms": {"sql": {"memory_mib": 77}}}`, 0o644)
			h.do("up", "sql")
			if s = h.status(); s.Phase != runnerapi.Ready || s.Failures != 0 {
				t.Errorf("mended: %+v", s)
			}
			if line := h.Shell(fmt.Sprintf("tr '\\0' ' ' </proc/%d/cmdline", s.Crosvm)); !strings.Contains(line, "--mem 77 ") {
				t.Errorf("the new settings were not taken: %s", line)
			}
			h.do("down", "sql")
			same(t, "after down", before, h.Snapshot())
		})
	}
}

// A machine that was ready: killed, it is started again; switched off, it stays off until it is told otherwise.
func TestEndsOfAReadyMachine(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{}, `{"crash_loop": 100}`)
	before := h.Snapshot()
	h.do("up", "sql")
	first := h.status()
	h.Shell(fmt.Sprintf("kill -9 %d", first.Crosvm))
	h.eventually("started again", func() bool {
		s := h.status()
		return s.Phase == runnerapi.Ready && s.Crosvm != first.Crosvm && s.Restarts == 1 && s.LastExit.Signal == 9
	})
	h.Shell("/apex/com.android.virt/bin/crosvm stop " + h.vm.Socket())
	h.eventually("off", func() bool { return h.status().Phase == runnerapi.Off })
	same(t, "while it is off", before, h.Snapshot())
	h.do("up", "sql")
	// Failures in a row: the pause is seconds by now, and grows, and up does not wait for its end.
	h.Script(h.vm, lightguest.Script{Panics: true, Status: 33})
	h.Shell(fmt.Sprintf("kill -9 %d", h.status().Crosvm))
	h.eventually("waiting", func() bool { s := h.status(); return s.Phase == runnerapi.Backoff && s.Failures >= 4 })
	h.Script(h.vm, lightguest.Script{})
	h.do("up", "sql")
	if s := h.status(); s.Failures != 0 {
		t.Errorf("started afresh: %+v", s)
	}
	h.do("down", "sql")
}

// The guest is asked first, then its power button pressed, crosvm told to stop, and killed at last; each with its bound.
func TestShutdownGetsRougher(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		deaf []string
		says string
	}{
		"asked":   {nil, "the guest shut down in order"},
		"button":  {[]string{"guest"}, "at the power button"},
		"stopped": {[]string{"guest", "powerbtn"}, "crosvm stopped it"},
		"killed":  {[]string{"guest", "powerbtn", "stop"}, "crosvm was killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newLight(t, vmspec.MainFirst, lightguest.Script{Deaf: tt.deaf}, `{"shutdown_timeout": 5}`)
			before := h.Snapshot()
			h.do("up", "sql")
			h.do("down", "sql")
			if !strings.Contains(h.logs(), tt.says) {
				t.Errorf("it ended otherwise: %s", h.logs())
			}
			same(t, "after down", before, h.Snapshot())
			// The same without the daemon, by whoever finds what it left.
			h.do("up", "sql")
			h.Shell(fmt.Sprintf("kill -9 %d", h.status().Daemon))
			if o := h.do("down", "sql"); !strings.Contains(o.stderr, "has lost its daemon") || !strings.Contains(o.stderr, tt.says) {
				t.Errorf("of an orphan: %v", o)
			}
			same(t, "after down of an orphan", before, h.Snapshot())
		})
	}
}

// goOut has the guest connect to the internet's server and returns by which address that sees it, or "".
func (h *handset) goOut() string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), waitLimit)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort("192.168.100.2", strconv.Itoa(lightguest.RelayPort)))
	if err != nil {
		h.t.Fatalf("connect to the guest: %v\n%s", err, h.logs())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "%s:80\nGET / HTTP/1.0\r\n\r\n", androidtest.ServerIP)
	answer, _ := io.ReadAll(conn)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// A phone that is offline when the machine starts, as at boot before netd has an uplink: the machine answers the phone, and
// reaches the internet as soon as there is a way.
func TestStartOffline(t *testing.T) {
	t.Parallel()
	for _, routing := range bothRoutings {
		t.Run(string(routing), func(t *testing.T) {
			t.Parallel()
			h := newLight(t, routing, lightguest.Script{}, `{}`)
			h.serveAddress()
			h.SwitchUplink("")
			before := h.Snapshot()
			h.do("up", "sql")
			if s := h.status(); s.Phase != runnerapi.Ready || s.Network.Uplink != "" {
				t.Errorf("offline: %+v", s)
			}
			if report := h.diagnose(); report.Cause != diagnose.Routing || report.Layers[7].Verdict != diagnose.OK {
				t.Errorf("offline: %+v", report)
			}
			h.SwitchUplink("wlan0")
			h.eventually("online", func() bool { return h.goOut() == androidtest.WLANIP })
			h.SwitchUplink("")
			h.eventually("offline again", func() bool { return h.status().Network.Uplink == "" })
			if got := h.goOut(); got != "" {
				t.Errorf("offline, the guest is seen as %s", got)
			}
			h.SwitchUplink("rmnet0")
			h.eventually("online by rmnet0", func() bool { return h.goOut() == androidtest.MobileIP })
			h.SwitchUplink("")
			h.do("down", "sql")
			same(t, "after down", before, h.Snapshot())
		})
	}
}

// The daemon's own repairs. An interface that was only switched off costs nobody the machine; one that was deleted does.
func TestDaemonRepairs(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	h.serveAddress()
	h.do("up", "sql")
	up, crosvm := h.Snapshot(), h.status().Crosvm
	for _, fault := range faults {
		if fault.phone == "" || strings.Contains(fault.phone, "PID") || strings.Contains(fault.phone, "link del") {
			continue
		}
		h.Shell(fault.phone)
		h.settles("repaired: "+fault.name, up)
	}
	if s := h.status(); s.Crosvm != crosvm || s.Restarts != 0 || h.goOut() != androidtest.WLANIP {
		t.Errorf("the machine was restarted: %+v\n%s", s, h.logs())
	}
	h.Shell("ip link del vm_sql")
	h.eventually("started again", func() bool { s := h.status(); return s.Phase == runnerapi.Ready && s.Crosvm != crosvm })
	if s := h.status(); s.Failures != 0 || h.goOut() != androidtest.WLANIP {
		t.Errorf("with a new interface: %+v", s)
	}
	h.do("down", "sql")
}

// Who can read what on the phone while the machine starts and runs.
func TestSecretsOnThePhone(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{Deaf: []string{"endpoint"}}, `{"shutdown_timeout": 1}`)
	if err := os.MkdirAll(h.File(h.vm.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	const secret = "a-very-secret-word"
	h.put(h.vm.Secrets()+"/postgres", secret, 0o600)
	h.do("up", "sql", "--no-wait")
	h.eventually("booting", func() bool { return h.status().Phase == runnerapi.Booting })
	disk := h.File(h.vm.ConfigDisk())
	for path, want := range map[string]os.FileMode{h.File(h.vm.Run()): 0o700, disk: 0o600, h.File(h.vm.Token()): 0o600,
		h.File(h.vm.State()): 0o600, h.File(h.vm.Log()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %#o", path, info.Mode(), err, want)
		}
	}
	if text, err := os.ReadFile(disk); err != nil || !strings.Contains(string(text), secret) {
		t.Errorf("the config disk does not hold the secret: %v", err)
	}
	token, err := os.ReadFile(h.File(h.vm.Token()))
	if err != nil {
		t.Fatal(err)
	}
	said := h.Shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '") + h.logs() + h.do("status", "sql", "--json").stdout
	for _, word := range []string{secret, string(token)} {
		if strings.Contains(said, word) {
			t.Error("a secret stands in arguments, the environment, a log or the status")
		}
	}
	h.do("down", "sql")
	h.Script(h.vm, lightguest.Script{})
	h.do("up", "sql")
	h.eventually("without the config disk", func() bool { _, err := os.Stat(disk); return os.IsNotExist(err) })
	h.do("down", "sql")
	if left, err := filepath.Glob(h.File(h.vm.Run()) + "/[ct.]*"); err != nil || len(left) > 0 {
		t.Errorf("down left %v, %v", left, err)
	}
}

// What an earlier life may have left where files are expected.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	if err := os.MkdirAll(h.File(h.vm.Run()), 0o700); err != nil {
		t.Fatal(err)
	}
	before := h.Snapshot()
	h.put(h.vm.State(), "", 0o600) // a power cut
	stale, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: h.File(h.vm.Socket()), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if s := h.status(); s.Phase != runnerapi.Down {
		t.Errorf("after a power cut: %+v", s)
	}
	if o := h.runner("up", "sql"); o.status != 1 || !strings.Contains(o.stderr, "a crosvm that runs holds it") {
		t.Errorf("with a socket that is held: %v", o)
	}
	if o := h.runner("down", "sql"); o.status != 1 || !strings.Contains(o.stderr, "a crosvm that runs holds it") {
		t.Errorf("with a socket that is held: %v", o)
	}
	same(t, "after down", before, h.Snapshot())
	stale.Close()
	h.do("up", "sql")
	h.do("down", "sql")
}

// A tailnet that wants a new key is named, and nothing on the phone is to be repaired.
func TestDiagnoseNamesTheTailnet(t *testing.T) {
	t.Parallel()
	h := newLight(t, vmspec.MainFirst, lightguest.Script{Tailnet: &guestapi.Tailnet{State: "NeedsLogin"}}, `{}`)
	h.do("up", "sql")
	for _, flags := range [][]string{nil, {"--fix"}} {
		if report := h.diagnose(flags...); report.Cause != diagnose.Tailscale || report.Layers[6].Fixable || len(report.Fixed) > 0 {
			t.Errorf("%+v", report)
		}
	}
	h.do("down", "sql")
}
