package phone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestReleases runs the machine on each release of Android. It must start without root's rights,
// answer, restart at once after a reboot and after a pause after a panic or a kill, shut down on
// request, and leave the phone's network as it was.
func TestReleases(t *testing.T) {
	t.Parallel()
	for _, r := range crosvmcli.Releases {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLightOn(t, androidtest.Options{Build: androidtest.DefaultBuild(r)}, vmspec.Scoped, lightguest.Script{}, `{"crash_loop": 100, "shutdown_timeout": 5}`)
			before := h.Snapshot()
			h.ServeAddress()
			h.Do("up", "sql")
			checkConfined(h)
			if got := h.GoOut(); got != androidtest.WLANIP {
				t.Errorf("the guest reaches the internet as %q", got)
			}
			for _, step := range []struct {
				name string
				do   func(crosvm int)
				kind string
				more int // failures
			}{
				{"reboot", func(int) { h.End(lightguest.Reset) }, "reset", 0},
				{"panic", func(int) { h.End(lightguest.Panic) }, "panic", 1},
				{"panic without a driver for it", func(int) { h.End(lightguest.BarePanic) }, "panic", 1},
				{"crash of the hypervisor", func(int) { h.End(lightguest.SystemCrash) }, "vanished", 1},
				{"kill", func(crosvm int) { h.Shell(fmt.Sprintf("kill -9 %d", crosvm)) }, "killed", 1},
			} {
				was := h.Status()
				step.do(was.Crosvm)
				h.Eventually(step.name, func() bool {
					s := h.Status()
					return s.Phase == runnerapi.Ready && s.Crosvm != 0 && s.Crosvm != was.Crosvm && s.LastExit.Kind == step.kind && s.Failures == was.Failures+step.more
				})
			}
			h.Do("down", "sql")
			if !strings.Contains(h.RunnerLog(), "the guest shut down in order") {
				t.Error(h.RunnerLog())
			}
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
			// Its network does not respond, so the runner shuts it down at its console.
			h.Script(h.VM, lightguest.Script{Deaf: []string{"guest"}})
			h.Do("up", "sql")
			h.Do("down", "sql")
			if !strings.Contains(h.RunnerLog(), "at its console") {
				t.Error(h.RunnerLog())
			}
			phonetest.SameNetwork(t, "after down", before, h.Snapshot())
		})
	}
}

// checkConfined checks the identity and the rights that the last started crosvm has recorded.
func checkConfined(h *phonetest.Handset) {
	h.T.Helper()
	starts := h.CrosvmStarts()
	c := starts[len(starts)-1]
	s := h.Status()
	if c.UID < 5000 || c.UID > 5999 || c.GID != c.UID || len(c.Groups) > 0 || s.UID != c.UID || s.AsRoot != "" {
		h.T.Errorf("crosvm is user %d, group %d, with %v; status says user %d, %s", c.UID, c.GID, c.Groups, s.UID, s.AsRoot)
	}
	if const0 := "0000000000000000"; c.Capabilities != const0 || c.Bounding != const0 || !c.NoNewPrivs {
		h.T.Errorf("crosvm has capabilities %s of %s; no new privileges: %t", c.Capabilities, c.Bounding, c.NoNewPrivs)
	}
	if c.ProcessGroup != c.PID {
		h.T.Errorf("process %d is in the group %d", c.PID, c.ProcessGroup)
	}
	dev := slices.DeleteFunc(slices.Clone(c.Dev), func(path string) bool { return strings.HasPrefix(path, "sov/") })
	if want := []string{"full", "kvm", "null", "random", "urandom", "zero"}; !slices.Equal(dev, want) {
		h.T.Errorf("its /dev has %q, want %q", dev, want)
	}
	slot := h.VM.Slot("a")
	want := []string{"/dev/tun", slot + "/kernel", slot + "/rootfs.img", "/memfd:sov-config (deleted)", h.VM.Console(), h.VM.Early(), h.VM.Requests()}
	slices.Sort(want)
	if !slices.Equal(c.Files, want) {
		h.T.Errorf("it has %q open, want %q", c.Files, want)
	}
	if slices.Contains(c.Blocking, "/dev/tun") || !slices.Contains(c.Blocking, h.VM.Requests()) {
		h.T.Errorf("whose readers wait: %q", c.Blocking)
	}
	// A copy of the disks' descriptors would keep crosvm's locks.
	if open := h.Shell(fmt.Sprintf("ls -l /proc/%d/fd", s.Daemon)); strings.Contains(open, "rootfs.img") || strings.Contains(open, "/dev/tun") || strings.Contains(open, "kernel") {
		h.T.Errorf("the daemon keeps %s", open)
	}
	if first := starts[0].Args[0]; first != "/apex/com.android.virt/bin/crosvm" {
		h.T.Errorf("it is called %s", first)
	}
}

// TestUnconfined checks that crosvm runs with root's rights on a phone that does not allow
// otherwise, and that the status reports it with the reason.
func TestUnconfined(t *testing.T) {
	t.Parallel()
	rootOnly := androidtest.DefaultBuild(crosvmcli.Android14)
	rootOnly.RootOnly = true
	for name, tt := range map[string]struct {
		phone   androidtest.Options
		crosvm  string
		because string
	}{
		"kernel":  {androidtest.Options{Build: rootOnly}, "", "Operation not permitted"},
		"program": {androidtest.Options{}, "/data/crosvm/crosvm", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLightOn(t, tt.phone, vmspec.Scoped, lightguest.Script{}, `{}`)
			if tt.crosvm != "" {
				h.Shell("umask 077; mkdir /data/crosvm; cp /apex/com.android.virt/bin/crosvm* /data/crosvm; chmod 700 " + tt.crosvm)
				h.Put(phonepath.Default.Settings(), `{"crosvm": "`+tt.crosvm+`"}`, 0o644)
			}
			h.Do("up", "sql")
			starts := h.CrosvmStarts()
			s := h.Status()
			if starts[len(starts)-1].UID != 0 || s.UID != 0 || !strings.Contains(s.AsRoot, tt.because) {
				t.Errorf("%+v, status %+v", starts[len(starts)-1], s)
			}
			if text := h.Do("status", "sql").Stdout; !strings.Contains(text, "of root") || !strings.Contains(text, tt.because) {
				t.Errorf("status does not say it: %s", text)
			}
			h.Do("down", "sql")
		})
	}
}

// TestHypervisors checks crosvm's arguments on each hypervisor, with settings of the machine.
func TestHypervisors(t *testing.T) {
	t.Parallel()
	elite := crosvmcli.Build{Release: crosvmcli.Android15QPR1, WithoutFirmware: true}
	protected := crosvmcli.Build{Release: crosvmcli.Android14QPR3, Protected: true}
	for name, tt := range map[string]struct {
		phone    androidtest.Options
		settings string // of the machine
		has      string
		hasNot   string
	}{
		// Gunyah locks the memory that it lends, and a container may lock at most 8 MiB.
		"gunyah":       {androidtest.Options{Build: elite, Hypervisor: androidtest.Gunyah}, `"memory_mib": 4`, "--hypervisor gunyah --protected-vm-without-firmware --no-balloon", "--swiotlb"},
		"gunyah, more": {androidtest.Options{Build: elite, Hypervisor: androidtest.Gunyah}, `"memory_mib": 4, "swiotlb_mib": 14, "huge_pages": true`, "--swiotlb 14 --no-balloon --hugepages", ""},
		"geniezone":    {androidtest.Options{Hypervisor: androidtest.GenieZone}, `"memory_mib": 64`, "--hypervisor geniezone", "--protected-vm"},
		"pKVM":         {androidtest.Options{Build: protected}, `"protection": "protected", "balloon": true`, "--protected-vm --", "--no-balloon"},
		"KVM on 13":    {androidtest.Options{Build: androidtest.DefaultBuild(crosvmcli.Android13)}, `"hypervisor": "kvm", "balloon": false`, "--no-balloon", "--hypervisor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLightOn(t, tt.phone, vmspec.Scoped, lightguest.Script{}, `{"vms": {"sql": {`+tt.settings+`}}}`)
			h.Shell("ulimit -S -l 64; " + phonepath.Default.Runner() + " up sql") // the limit that init sets for scripts
			starts := h.CrosvmStarts()
			words := strings.Join(starts[len(starts)-1].Args, " ")
			if !strings.Contains(words, tt.has) || tt.hasNot != "" && strings.Contains(words, tt.hasNot) {
				t.Errorf("crosvm is told %s; want %q, and not %q", words, tt.has, tt.hasNot)
			}
			if s := h.Status(); s.AsRoot != "" || s.UID == 0 {
				t.Errorf("%+v", s)
			}
			h.Do("down", "sql")
		})
	}
}

// TestCrosvmLacks checks that a crosvm which cannot run the machine is reported and not retried.
func TestCrosvmLacks(t *testing.T) {
	t.Parallel()
	build := androidtest.DefaultBuild(crosvmcli.Android15)
	build.Without = []string{"--net", "--tap-fd"}
	for name, tt := range map[string]struct {
		phone androidtest.Options
		says  string
	}{
		"network":      {androidtest.Options{Build: build}, "built without a network card"},
		"gunyah on 13": {androidtest.Options{Build: androidtest.DefaultBuild(crosvmcli.Android13), Hypervisor: androidtest.Gunyah}, "built without Gunyah (--hypervisor)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := phonetest.NewLightOn(t, tt.phone, vmspec.Scoped, lightguest.Script{}, `{}`)
			o := h.Runner("up", "sql")
			if s := h.Status(); o.Status != 1 || s.Phase != runnerapi.Failed || !strings.Contains(s.Reason, tt.says) {
				t.Errorf("%v, %+v", o, s)
			}
			h.Do("down", "sql")
		})
	}
}
