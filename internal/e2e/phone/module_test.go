package phone

import (
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// The module alone makes a phone that runs the machine from boot on; sov push updates what it has installed, and flashing
// again updates what sov push has; removed, it leaves nothing but what is the user's, which the next one takes on, and not
// that when told so.
func TestModule(t *testing.T) {
	t.Parallel()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	other := androidtest.New(t, androidtest.Options{}) // for its runner
	runner, err := os.ReadFile(other.File(phonepath.Default.Runner()))
	if err != nil {
		t.Fatal(err)
	}
	p.Ash("mkdir -p /data/adb/magisk /data/adb/busybox; for a in unzip sed ash chmod chown mv rm mkdir; do ln -s /usr/bin/busybox /data/adb/busybox/$a; done")
	if err := os.WriteFile(p.File("/data/adb/magisk/util_functions.sh"), []byte(phonetest.RootManager), 0o644); err != nil {
		t.Fatal(err)
	}
	first := sovtest.Artifact(t, "arm64")
	second := sovtest.ChangedSetting(t)
	network := p.Snapshot()
	t.Log(p.Flash(first, runner))
	if s := p.Slot("a"); s.State != runnerapi.SlotNew || !s.Current {
		t.Errorf("flashed: %+v", s)
	}
	if o := p.Sov("secrets", "set", "sql", "postgres"); o.Status != 0 {
		t.Fatal(o)
	}

	boot := func() {
		t.Helper()
		p.Ash("ash /data/adb/modules/sov-sql/service.sh")
		p.Ready()
	}
	boot()
	if r := p.Push(second, "--restart"); r.Slot != "b" || r.Content > 1<<20 {
		t.Errorf("an update by push: %+v", r)
	}
	if got := p.Ask("show log_min_duration_statement"); strings.Join(got, "") != "250ms" {
		t.Errorf("after the update: %q", got)
	}
	t.Log(p.Flash(second, runner))
	if s := p.Slot("b"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("flashed what is installed: %+v", s)
	}
	p.Flash(first, runner)
	if s := p.Status(); !s.Slots[0].Current || s.Slot != "b" || s.Phase != runnerapi.Ready {
		t.Errorf("flashed the first again: %+v", s)
	}

	p.Ask("create table journey as select 'written before'::text as stop")
	left := func(when, want string) {
		t.Helper()
		if got := strings.Join(strings.Fields(p.Shell("cd /data/sovereign; find . ! -type d | sort; ps -eo args | grep -c [c]rosvm || true")), " "); got != want+" 0" {
			t.Errorf("%s: left: %s", when, got)
		}
	}
	const users = "./secrets/sql/postgres ./settings.json ./vms/sql/data.img"
	uninstall := "ash /data/adb/modules/sov-sql/uninstall.sh"
	p.Ash(uninstall)
	phonetest.SameNetwork(t, "uninstalled", network, p.Snapshot())
	left("uninstalled", users)
	for what, again := range map[string]func(){
		"flashed again": func() { p.Flash(first, runner); boot() },
		"pushed again":  func() { p.Push(second, "--no-secrets", "--start") },
	} {
		again()
		if got := p.Ask("select stop from journey"); strings.Join(got, "") != "written before" {
			t.Errorf("%s: %q", what, got)
		}
		p.Ash(uninstall)
		left(what+" and uninstalled", users)
	}
	p.Flash(first, runner)
	p.Shell("touch /data/sovereign/vms/sql/erase-data; busybox " + uninstall)
	left("with the data erased", "./settings.json")
	p.Shell("cd /data/sovereign; mkdir -p vms/sql secrets/sql; touch vms/sql/data.img vms/sql/erase-data secrets/sql/postgres; busybox " + uninstall)
	left("with the data erased, of a machine that was removed before", "./settings.json")
}
