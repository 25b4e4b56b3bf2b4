package phone

import (
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// hardware matches hardware addresses of interfaces, which change at a restart.
var hardware = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// TestModule checks that the module alone makes a phone run the machine from boot. sov push updates
// what the module has installed, and flashing updates what sov push has installed. Removing the
// module leaves only the user's files, which the next installation uses.
func TestModule(t *testing.T) {
	t.Parallel()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	first := sovtest.Artifact(t, "arm64")
	second := sovtest.ChangedSetting(t)
	snapshot := func() string { return hardware.ReplaceAllString(p.Snapshot(), "") }
	network := snapshot()
	p.MustFlash(first)
	if s := p.Slot("a"); s.State != runnerapi.SlotNew || !s.Current {
		t.Errorf("flashed: %+v", s)
	}
	if o := p.Sov("secrets", "set", "sql", "postgres"); o.Status != 0 {
		t.Fatal(o)
	}

	boot := func() {
		t.Helper()
		p.Reboot()
		p.Ready()
	}
	boot()
	if r := p.Push(second, "--restart"); r.Slot != "b" || r.Content > 1<<20 {
		t.Errorf("an update by push: %+v", r)
	}
	if got := p.Ask("show log_min_duration_statement"); strings.Join(got, "") != "250ms" {
		t.Errorf("after the update: %q", got)
	}
	p.MustFlash(second)
	if s := p.Slot("b"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("flashed what is installed: %+v", s)
	}
	p.MustFlash(first)
	if s := p.Status(); !s.Slots[0].Current || s.Slot != "b" || s.Phase != runnerapi.Ready {
		t.Errorf("flashed the first again: %+v", s)
	}

	p.Ask("create table journey as select 'written before'::text as stop")
	p.RemoveModule("sov-sql")
	p.Reboot()
	phonetest.SameNetwork(t, "uninstalled", network, snapshot())
	const users = "./secrets/sql/postgres ./secrets/sql/role-app ./settings.json ./vms/sql/data.img"
	phonetest.Left(t, p.Handset, "uninstalled", users)
	for what, again := range map[string]func(){
		"flashed again": func() { p.MustFlash(first); boot() },
		"pushed again":  func() { p.Push(second, "--no-secrets", "--start") },
	} {
		again()
		if got := p.Ask("select stop from journey"); strings.Join(got, "") != "written before" {
			t.Errorf("%s: %q", what, got)
		}
		if o := p.Sov("remove", "sql", "--device", p.ADB.Serial()); o.Status != 0 {
			t.Fatal(o)
		}
		phonetest.Left(t, p.Handset, what+" and removed", users)
	}
}

// TestModuleByManager runs the module under each root manager, with a guest that boots at once.
func TestModuleByManager(t *testing.T) {
	t.Parallel()
	for _, manager := range []androidtest.Superuser{androidtest.Magisk, androidtest.KernelSU, androidtest.APatch} {
		t.Run(string(manager), func(t *testing.T) {
			t.Parallel()
			h := &phonetest.Handset{Phone: androidtest.New(t, androidtest.Options{Superuser: manager, InMemory: true}), T: t}
			if runtime.GOARCH == "amd64" {
				h.SetProp("ro.product.cpu.abi", "x86_64")
			}
			if err := os.RemoveAll(h.File("/data/sovereign")); err != nil {
				t.Fatal(err)
			}
			var err error
			if h.VM, err = phonepath.Default.VM("light"); err != nil {
				t.Fatal(err)
			}
			version := func(s lightguest.Script) string {
				dir := t.TempDir()
				androidtest.LightArtifact(t, dir, "light", vmspec.MainFirst, s)
				return dir
			}
			h.MustFlash(version(lightguest.Script{}))
			h.Reboot(false)
			h.Eventually("started by the boot", func() bool { return h.Status().Phase == runnerapi.Ready })
			booted := h.Status()

			// An update does not disturb the running machine. The next boot starts the new version.
			h.MustFlash(version(lightguest.Script{Deaf: []string{"powerbtn"}}))
			if s := h.Status(); s.Daemon != booted.Daemon || s.Crosvm != booted.Crosvm || s.Phase != runnerapi.Ready {
				t.Errorf("while the update was installed: %+v", s)
			}
			h.Reboot(false)
			h.Eventually("started by the next boot", func() bool { s := h.Status(); return s.Phase == runnerapi.Ready && s.Slot == "b" })
			if got := h.Shell("ls /data/adb/modules/sov-light"); got != "boot-completed.sh\nmodule.prop\nservice.sh\nuninstall.sh\n" {
				t.Errorf("in the module's folder: %s", got)
			}

			h.DisableModule("sov-light")
			h.Reboot(false)
			if s := h.Status(); s.DaemonAlive || s.Phase != runnerapi.Down {
				t.Errorf("switched off: %+v", s)
			}
			if err := os.Remove(h.File("/data/adb/modules/sov-light/disable")); err != nil {
				t.Fatal(err)
			}
			h.Reboot(true)
			if s := h.Status(); s.DaemonAlive {
				t.Errorf("safe mode: %+v", s)
			}
			if err := os.Remove(h.File("/data/adb/modules/sov-light/disable")); err != nil {
				t.Fatal(err)
			}
			h.Reboot(false)
			h.Eventually("back", func() bool { return h.Status().Phase == runnerapi.Ready })

			h.Put("/data/sovereign/settings.json", "{a typo", 0o644)
			h.RemoveModule("sov-light")
			h.Reboot(false)
			phonetest.Left(t, h, "uninstalled", "./settings.json")
			h.Put("/data/sovereign/settings.json", "{}", 0o644)
			h.MustFlash(version(lightguest.Script{}))
			h.Put("/data/sovereign/vms/light/data.img", "", 0o600)
			h.Put("/data/sovereign/vms/light/erase-data", "", 0o600)
			h.Reboot(false)
			h.RemoveModule("sov-light")
			h.Reboot(false)
			phonetest.Left(t, h, "with the data erased", "./settings.json")
		})
	}
}
