package e2e

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/layout"
	"github.com/sovereign-sql/sov/internal/runnerapi"
	"github.com/sovereign-sql/sov/internal/slots"
	"github.com/sovereign-sql/sov/stages/module"
)

// rootManager is what Magisk's util_functions.sh is to a module's update-binary: it unpacks customize.sh and sources it.
const rootManager = `
MAGISK_VER_CODE=28100 ARCH=arm64 API=35 TMPDIR=/data/local/tmp
MODPATH=/data/adb/modules_update/sov-sql
ui_print() { echo "$1"; }
abort() { ui_print "$1"; rm -rf "$MODPATH"; exit 1; }
install_module() {
	mkdir -p "$MODPATH"
	unzip -o "$ZIPFILE" customize.sh -d "$TMPDIR" >/dev/null
	. "$TMPDIR/customize.sh"
	[ "$SKIPUNZIP" = 1 ] || abort "it wants to be unpacked"
	rm -rf /data/adb/modules/sov-sql; mkdir -p /data/adb/modules
	mv "$MODPATH" /data/adb/modules/sov-sql
}
`

// flash makes a module of an artifact's folder and has the phone's root manager install it. The runner in it is the phone's
// own: the simulated phone has this computer's processor.
func (p *pushed) flash(dir string, runner []byte) string {
	p.t.Helper()
	a, err := slots.Load(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	const at = "/data/local/tmp/sov-sql.zip"
	if err := os.MkdirAll(filepath.Dir(p.File(at)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	archive, err := os.Create(p.File(at))
	if err != nil {
		p.t.Fatal(err)
	}
	open := func(name string) (io.ReadCloser, error) {
		if name == "sov-runner" {
			return io.NopCloser(strings.NewReader(string(runner))), nil
		}
		return os.Open(filepath.Join(dir, name))
	}
	if err := module.Write(p.t.Context(), archive, a.Manifest, a.Files, open, p.t.TempDir()); err != nil {
		p.t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		p.t.Fatal(err)
	}
	return p.ash("unzip -p " + at + " META-INF/com/google/android/update-binary >/data/local/tmp/update-binary; ash /data/local/tmp/update-binary 3 1 " + at)
}

// ash runs a script under busybox as root managers do: with its own applets before any program.
func (p *pushed) ash(script string) string {
	p.t.Helper()
	return p.Shell("PATH=/data/adb/busybox:$PATH busybox ash -euc '" + script + "' 2>&1")
}

// The module alone makes a phone that runs the machine from boot on; sov push updates what it has installed, and flashing
// again updates what sov push has; removed, it leaves nothing but what is the user's, which the next one takes on, and not
// that when told so.
func TestModule(t *testing.T) {
	t.Parallel()
	p := newPushed(t, androidtest.NewADBServer(t))
	other := androidtest.New(t, androidtest.Options{}) // for its runner
	runner, err := os.ReadFile(other.File(layout.Default.Runner()))
	if err != nil {
		t.Fatal(err)
	}
	p.ash("mkdir -p /data/adb/magisk /data/adb/busybox; for a in unzip sed ash chmod chown mv rm mkdir; do ln -s /usr/bin/busybox /data/adb/busybox/$a; done")
	if err := os.WriteFile(p.File("/data/adb/magisk/util_functions.sh"), []byte(rootManager), 0o644); err != nil {
		t.Fatal(err)
	}
	first := artifact(t, "arm64")
	second, result := changedSetting()
	if result.status != 0 {
		t.Fatal(result)
	}
	network := p.Snapshot()
	t.Log(p.flash(first, runner))
	if s := p.slot("a"); s.State != runnerapi.SlotNew || !s.Current {
		t.Errorf("flashed: %+v", s)
	}
	if o := p.sov("secrets", "set", "sql", "postgres"); o.status != 0 {
		t.Fatal(o)
	}

	boot := func() {
		t.Helper()
		p.ash("ash /data/adb/modules/sov-sql/service.sh")
		p.ready()
	}
	boot()
	if r := p.push(second, "--restart"); r.Slot != "b" || r.Content > 1<<20 {
		t.Errorf("an update by push: %+v", r)
	}
	if got := p.ask("show log_min_duration_statement"); strings.Join(got, "") != "250ms" {
		t.Errorf("after the update: %q", got)
	}
	t.Log(p.flash(second, runner))
	if s := p.slot("b"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("flashed what is installed: %+v", s)
	}
	p.flash(first, runner)
	if s := p.status(); !s.Slots[0].Current || s.Slot != "b" || s.Phase != runnerapi.Ready {
		t.Errorf("flashed the first again: %+v", s)
	}

	p.ask("create table journey as select 'written before'::text as stop")
	left := func(when, want string) {
		t.Helper()
		if got := strings.Join(strings.Fields(p.Shell("cd /data/sovereign; find . ! -type d | sort; ps -eo args | grep -c [c]rosvm || true")), " "); got != want+" 0" {
			t.Errorf("%s: left: %s", when, got)
		}
	}
	const users = "./secrets/sql/postgres ./settings.json ./vms/sql/data.img"
	uninstall := "ash /data/adb/modules/sov-sql/uninstall.sh"
	p.ash(uninstall)
	same(t, "uninstalled", network, p.Snapshot())
	left("uninstalled", users)
	for what, again := range map[string]func(){
		"flashed again": func() { p.flash(first, runner); boot() },
		"pushed again":  func() { p.push(second, "--no-secrets", "--start") },
	} {
		again()
		if got := p.ask("select stop from journey"); strings.Join(got, "") != "written before" {
			t.Errorf("%s: %q", what, got)
		}
		p.ash(uninstall)
		left(what+" and uninstalled", users)
	}
	p.flash(first, runner)
	p.Shell("touch /data/sovereign/vms/sql/erase-data; busybox " + uninstall)
	left("with the data erased", "./settings.json")
	p.Shell("cd /data/sovereign; mkdir -p vms/sql secrets/sql; touch vms/sql/data.img vms/sql/erase-data secrets/sql/postgres; busybox " + uninstall)
	left("with the data erased, of a machine that was removed before", "./settings.json")
}
