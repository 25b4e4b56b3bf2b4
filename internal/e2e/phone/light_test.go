package phone

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// The tests in this file test only the runner, with a guest that boots at once and ends as
// scripted.

// TestKilledInBetween kills one process of the machine at a time. The endurance tests repeat it
// more often.
func TestKilledInBetween(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) { phonetest.KillInBetween(t, routing, 5) })
	}
}

func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) { phonetest.KillAndStartAgain(t, routing, 5) })
	}
}

// TestUpWhileTheDaemonEnds checks that up does not take an ending daemon, which still holds its
// lock, for a running one.
func TestUpWhileTheDaemonEnds(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{Deaf: []string{"guest"}}, `{"shutdown_timeout": 5}`)
	h.Do("up", "sql")
	daemon := h.Status().Daemon
	h.Shell(fmt.Sprintf("kill %d", daemon))
	h.Eventually("stopping", func() bool { return h.Status().Phase == runnerapi.Stopping })
	h.Do("up", "sql")
	if s := h.Status(); s.Daemon == daemon || s.Phase != runnerapi.Ready || !s.CrosvmAlive {
		t.Errorf("%+v", s)
	}
	h.Do("down", "sql")
}

// TestEnds checks what follows each of crosvm's ends when the guest was never ready, and that the
// phone's network is restored meanwhile.
func TestEnds(t *testing.T) {
	t.Parallel()
	for end, want := range map[lightguest.End]struct {
		kind   string
		status int
		phase  runnerapi.Phase
	}{
		lightguest.Off:      {"stopped", 0, runnerapi.CrashLoop},
		lightguest.Failed:   {"failed", 1, runnerapi.CrashLoop},
		lightguest.Reset:    {"reset", 32, runnerapi.CrashLoop},
		lightguest.Crash:    {"crash", 33, runnerapi.CrashLoop},
		lightguest.Panic:    {"panic", 34, runnerapi.CrashLoop},
		lightguest.Refused:  {"invalid-arguments", 35, runnerapi.Failed},
		lightguest.Watchdog: {"watchdog", 36, runnerapi.CrashLoop},

		lightguest.SystemCrash: {"vanished", 0, runnerapi.CrashLoop},
		lightguest.BarePanic:   {"panic", 32, runnerapi.CrashLoop},
	} {
		if androidtest.DefaultRelease() == crosvmcli.Android13 && want.status > 34 {
			continue // Android 13 has neither status
		}
		t.Run(want.kind, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{End: end}, `{"crash_loop": 2}`)
			before := h.Snapshot()
			o := h.Runner("up", "sql")
			if o.Status != 1 || !strings.Contains(o.Stderr, string(want.phase)) {
				t.Errorf("up: %v", o)
			}
			s := h.Status()
			if s.Phase != want.phase || s.LastExit == nil || s.LastExit.Kind != want.kind || s.LastExit.Code != want.status || s.CrosvmAlive || !s.DaemonAlive {
				t.Errorf("status: %+v", s)
			}
			phonetest.SameNetwork(t, "while it is left alone", before, h.Snapshot())
			if report := h.Diagnose(); report.Cause != diagnose.Process || report.Layers[1].Verdict != finding.Unknown {
				t.Errorf("diagnose: %+v", report)
			}
			// The next start uses what was repaired meanwhile, including the settings.
			h.Script(h.VM, lightguest.Script{})
			h.Put(phonepath.Default.Settings(), `{"vms": {"sql": {"memory_mib": 77}}}`, 0o644)
			h.Do("up", "sql")
			if s = h.Status(); s.Phase != runnerapi.Ready || s.Failures != 0 {
				t.Errorf("mended: %+v", s)
			}
			if line := h.Shell(fmt.Sprintf("tr '\\0' ' ' </proc/%d/cmdline", s.Crosvm)); !strings.Contains(line, "--mem 77 ") {
				t.Errorf("the new settings were not taken: %s", line)
			}
			h.Do("down", "sql")
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
		})
	}
}

// TestEndsOfAReadyMachine checks that a machine that was ready is restarted when it is killed, and
// stays off after a power-off until the user starts it.
func TestEndsOfAReadyMachine(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{"crash_loop": 100}`)
	before := h.Snapshot()
	h.Do("up", "sql")
	first := h.Status()
	h.Shell(fmt.Sprintf("kill -9 %d", first.Crosvm))
	h.Eventually("started again", func() bool {
		s := h.Status()
		return s.Phase == runnerapi.Ready && s.Crosvm != 0 && s.Crosvm != first.Crosvm && s.Restarts == 1 && s.LastExit.Signal == 9
	})
	// crosvm reports that the guest has stopped, but the guest has not reported it, as when a
	// hypervisor stops the guest.
	for i, end := range []func(){
		func() { h.Shell("/apex/com.android.virt/bin/crosvm stop " + h.VM.Socket()) },
		func() { h.End(lightguest.SystemCrash) },
	} {
		before := h.Status()
		end()
		h.Eventually("started again", func() bool {
			s := h.Status()
			return s.Phase == runnerapi.Ready && s.Crosvm != 0 && s.Crosvm != before.Crosvm && s.LastExit.Kind == "vanished" && s.Failures == i+2
		})
	}
	before2 := h.Status()
	h.End(lightguest.Reset)
	h.Eventually("rebooted", func() bool {
		s := h.Status()
		return s.Phase == runnerapi.Ready && s.Crosvm != 0 && s.Crosvm != before2.Crosvm && s.LastExit.Kind == "reset" && s.Failures == before2.Failures
	})
	h.End(lightguest.Off)
	h.Eventually("off", func() bool { return h.Status().Phase == runnerapi.Off })
	phonetest.SameNetwork(t, "while it is off", before, h.Snapshot())
	h.Do("up", "sql")
	// After several failures, the pause is seconds long and grows. up does not wait for its end.
	h.Script(h.VM, lightguest.Script{End: lightguest.Crash})
	h.Shell(fmt.Sprintf("kill -9 %d", h.Status().Crosvm))
	h.Eventually("waiting", func() bool { s := h.Status(); return s.Phase == runnerapi.Backoff && s.Failures >= 4 })
	h.Script(h.VM, lightguest.Script{})
	h.Do("up", "sql")
	if s := h.Status(); s.Failures != 0 {
		t.Errorf("started afresh: %+v", s)
	}
	h.Do("down", "sql")
}

// TestShutdownEscalates checks that the guest is shut down over its network, then at its console,
// then by crosvm's stop command, and killed last. Each step has a time limit.
func TestShutdownEscalates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		deaf []string
		says string
	}{
		"asked":   {nil, "the guest shut down in order"},
		"console": {[]string{"guest"}, "at its console"},
		"stopped": {[]string{"guest", "console"}, "crosvm stopped it"},
		"killed":  {[]string{"guest", "console", "stop"}, "crosvm was killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{Deaf: tt.deaf}, `{"shutdown_timeout": 5}`)
			before := h.Snapshot()
			h.Do("up", "sql")
			h.Do("down", "sql")
			if !strings.Contains(h.Logs(), tt.says) {
				t.Errorf("it ended otherwise: %s", h.Logs())
			}
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
			// The same without the daemon: the next process shuts down the machine that it finds.
			h.Do("up", "sql")
			h.Shell(fmt.Sprintf("kill -9 %d", h.Status().Daemon))
			if o := h.Do("down", "sql"); !strings.Contains(o.Stderr, "has lost its daemon") || !strings.Contains(o.Stderr, tt.says) {
				t.Errorf("of an orphan: %v", o)
			}
			phonetest.SameNetwork(t, "after down of an orphan", before, h.Snapshot())
		})
	}
}

// TestStartOffline starts a machine on an offline phone, as at boot before netd has an uplink. The
// phone reaches the machine, which reaches the internet as soon as there is an uplink.
func TestStartOffline(t *testing.T) {
	t.Parallel()
	for _, routing := range phonetest.BothRoutings {
		t.Run(string(routing), func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLight(t, routing, lightguest.Script{}, `{}`)
			h.ServeAddress()
			h.SwitchUplink("")
			before := h.Snapshot()
			h.Do("up", "sql")
			if s := h.Status(); s.Phase != runnerapi.Ready || s.Network.Uplink != "" {
				t.Errorf("offline: %+v", s)
			}
			if report := h.Diagnose(); report.Cause != diagnose.Routing || report.Layers[7].Verdict != finding.OK {
				t.Errorf("offline: %+v", report)
			}
			h.SwitchUplink("wlan0")
			h.Eventually("online", func() bool { return h.GoOut() == androidtest.WLANIP })
			h.SwitchUplink("")
			h.Eventually("offline again", func() bool { return h.Status().Network.Uplink == "" })
			if got := h.GoOut(); got != "" {
				t.Errorf("offline, the guest is seen as %s", got)
			}
			h.SwitchUplink("rmnet0")
			h.Eventually("online by rmnet0", func() bool { return h.GoOut() == androidtest.MobileIP })
			h.SwitchUplink("")
			h.Do("down", "sql")
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
		})
	}
}

// TestDaemonRepairs checks the daemon's repairs. An interface that was only set down is repaired
// without a restart of the machine; a deleted one requires a restart.
func TestDaemonRepairs(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	h.ServeAddress()
	h.Do("up", "sql")
	up, crosvm := h.Snapshot(), h.Status().Crosvm
	for _, fault := range faults {
		if fault.phone == "" || strings.Contains(fault.phone, "PID") || strings.Contains(fault.phone, "link del") {
			continue
		}
		h.Shell(fault.phone)
		h.Settles("repaired: "+fault.name, up)
	}
	if s := h.Status(); s.Crosvm != crosvm || s.Restarts != 0 || h.GoOut() != androidtest.WLANIP {
		t.Errorf("the machine was restarted: %+v\n%s", s, h.Logs())
	}
	h.Shell("ip link del vm_sql")
	h.Eventually("started again", func() bool { s := h.Status(); return s.Phase == runnerapi.Ready && s.Crosvm != crosvm })
	if s := h.Status(); s.Failures != 0 || h.GoOut() != androidtest.WLANIP {
		t.Errorf("with a new interface: %+v", s)
	}
	h.Do("down", "sql")
}

// TestSecretsOnThePhone checks who can read which files while the machine starts and runs.
func TestSecretsOnThePhone(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{Deaf: []string{"endpoint"}}, `{"shutdown_timeout": 1}`)
	if err := os.MkdirAll(h.File(h.VM.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	secret, begin := phonetest.Canary.Text, time.Now().Add(-time.Minute)
	h.Put(h.VM.Secrets()+"/postgres", secret, 0o600)
	h.Do("up", "sql", "--no-wait")
	h.Eventually("booting", func() bool { return h.Status().Phase == runnerapi.Booting })
	for path, want := range map[string]os.FileMode{h.File(h.VM.Run()): 0o700, h.File(h.VM.Token()): 0o600,
		h.File(h.VM.State()): 0o600, h.File(h.VM.Log()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %#o", path, info.Mode(), err, want)
		}
	}
	onlyInSecrets(h, begin, "while the guest starts")
	if disk := configDisk(h); !strings.Contains(disk, secret) {
		t.Errorf("the config disk, of %d bytes, does not hold the secret", len(disk))
	}
	token, err := os.ReadFile(h.File(h.VM.Token()))
	if err != nil {
		t.Fatal(err)
	}
	said := h.Shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '") + h.Logs() + h.Do("status", "sql", "--json").Stdout
	for _, word := range []string{secret, string(token)} {
		if strings.Contains(said, word) {
			t.Error("a secret stands in arguments, the environment, a log or the status")
		}
	}
	h.Do("down", "sql")
	h.Script(h.VM, lightguest.Script{})
	h.Do("up", "sql")
	h.Eventually("without the secrets", func() bool { disk := configDisk(h); return disk != "" && strings.Trim(disk, "\x00") == "" })
	onlyInSecrets(h, begin, "when the guest runs")
	if s := h.Status(); s.InFile != "" {
		t.Errorf("status says that the secrets were in a file: %s", s.InFile)
	}
	h.Do("down", "sql")
	onlyInSecrets(h, begin, "afterwards")
	if left, want := h.Shell("ls -A "+h.VM.Run()), "console.log\ndaemon.lock\nearly.log\nmachine\nrunner.log\nstate.json\n"; left != want {
		t.Errorf("down left %q, want %q", left, want)
	}
}

// onlyInSecrets checks that no file of the phone's data contains a secret, except those in the
// machine's folder of secrets.
func onlyInSecrets(h *phonetest.Handset, begin time.Time, when string) {
	h.T.Helper()
	secrets, kept := h.File(h.VM.Secrets())+"/", 0
	for _, place := range phonetest.Canary.InFiles(h.T, begin, filepath.Dir(h.File("/data/sovereign"))) {
		if strings.HasPrefix(place, secrets) {
			kept++
		} else {
			h.T.Errorf("%s a secret is in %s", when, place)
		}
	}
	if kept == 0 {
		h.T.Errorf("%s no secret is found where it is", when)
	}
}

// configDisk returns the config disk in memory that crosvm has open, or "" without one.
func configDisk(h *phonetest.Handset) string {
	h.T.Helper()
	return h.Shell(fmt.Sprintf("cd /proc/%d/fd && for f in *; do case $(readlink $f) in /memfd:sov-config*) cat $f; break;; esac; done", h.Status().Crosvm))
}

// TestConfigDiskInFile starts a machine on a phone whose crosvm cannot use a disk in memory. The
// status must report where the secrets were and why. The file, and files that earlier versions
// left, must be removed after the guest has read it.
func TestConfigDiskInFile(t *testing.T) {
	t.Parallel()
	for _, release := range []crosvmcli.Release{crosvmcli.Android13, crosvmcli.Android15} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			build := androidtest.DefaultBuild(release)
			build.NoMemoryLocks = true
			h := phonetest.NewLightOn(t, androidtest.Options{Build: build}, vmspec.Scoped, lightguest.Script{}, `{}`)
			begin := time.Now().Add(-time.Minute)
			for dir, mode := range map[string]os.FileMode{h.VM.Secrets(): 0o700, h.VM.Run(): 0o700} {
				if err := os.MkdirAll(h.File(dir), mode); err != nil {
					t.Fatal(err)
				}
			}
			h.Put(h.VM.Secrets()+"/postgres", phonetest.Canary.Text, 0o600)
			h.Put(h.VM.ConfigDisk(), phonetest.Canary.Text, 0o600)
			h.Do("up", "sql")
			h.Eventually("without the file", func() bool { _, err := os.Stat(h.File(h.VM.ConfigDisk())); return os.IsNotExist(err) })
			onlyInSecrets(h, begin, "when the guest runs")
			s := h.Status()
			starts := h.CrosvmStarts()
			if !strings.Contains(s.InFile, "lock") || s.AsRoot != "" || len(starts) != 2 || !slices.Contains(starts[1].Files, h.VM.ConfigDisk()) {
				t.Errorf("%d starts, status %+v, crosvm %+v", len(starts), s, starts[len(starts)-1])
			}
			if text := h.Do("status", "sql").Stdout; !strings.Contains(text, "not in memory") {
				t.Errorf("status does not say it: %s", text)
			}
			h.Do("down", "sql")
			onlyInSecrets(h, begin, "afterwards")
		})
	}
}

// TestLeftovers checks files that an earlier run may have left where the runner expects other
// files.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{}, `{}`)
	if err := os.MkdirAll(h.File(h.VM.Machine()), 0o700); err != nil {
		t.Fatal(err)
	}
	before := h.Snapshot()
	h.Put(h.VM.State(), "", 0o600) // as after a power cut
	stale, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: h.File(h.VM.Socket()), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if s := h.Status(); s.Phase != runnerapi.Down {
		t.Errorf("after a power cut: %+v", s)
	}
	if o := h.Runner("up", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "a crosvm that runs holds it") {
		t.Errorf("with a socket that is held: %v", o)
	}
	if o := h.Runner("down", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "a crosvm that runs holds it") {
		t.Errorf("with a socket that is held: %v", o)
	}
	phonetest.SameNetwork(t, "after down", before, h.Snapshot())
	stale.Close()
	h.Do("up", "sql")
	h.Do("down", "sql")
}

// TestDiagnoseNamesTheTailnet checks that diagnose names a tailnet that requires a new key, and
// repairs nothing on the phone.
func TestDiagnoseNamesTheTailnet(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.MainFirst, lightguest.Script{Tailnet: &guestapi.Tailnet{State: "NeedsLogin"}}, `{}`)
	h.Do("up", "sql")
	for _, flags := range [][]string{nil, {"--fix"}} {
		if report := h.Diagnose(flags...); report.Cause != diagnose.Tailscale || report.Layers[6].Fixable || len(report.Fixed) > 0 {
			t.Errorf("%+v", report)
		}
	}
	h.Do("down", "sql")
}
