package phone

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// TestDamagedVersion checks that a version whose files are damaged on the phone's storage is not
// started, or ends when its kernel panics at the damaged block. The phone then rolls back to the
// other version if that one is intact, however long the damaged one has worked. Otherwise the
// machine stays down and reports what to do, which repairs it.
func TestDamagedVersion(t *testing.T) {
	t.Parallel()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	p.Put(phonepath.Default.Settings(), `{"shutdown_timeout": 5}`, 0o644)
	if runtime.GOARCH == "amd64" {
		p.SetProp("ro.product.cpu.abi", "x86_64")
	}
	version := func(serial int64) string {
		t.Helper()
		dir := t.TempDir()
		androidtest.LightArtifact(t, dir, "sql", vmspec.MainFirst, lightguest.Script{Deaf: []string{strings.Repeat("x", int(serial))}})
		artifacttest.Sign(t, dir, artifacttest.Key(t, 1), serial)
		return dir
	}
	push := func(dir string, flags ...string) {
		t.Helper()
		if o := p.Sov(append([]string{"push", dir, "--no-secrets", "--device", p.ADB.Serial()}, flags...)...); o.Status != 0 {
			t.Fatalf("push: %v\n%s", o, p.Logs())
		}
	}
	flip := func(slot, name string, at int64) {
		t.Helper()
		artifacttest.Flip(t, filepath.Join(p.File(p.VM.Slot(slot)), name), at)
	}
	runs := func(what, slot string) {
		t.Helper()
		p.Eventually(what, func() bool { s := p.Status(); return s.Phase == runnerapi.Ready && s.Slot == slot })
	}
	wentBack := func(why string) {
		t.Helper()
		runs("the other version", "a")
		s := p.Status()
		if s.RollBack == nil || s.RollBack.From != "b" || !strings.Contains(s.RollBack.Reason, why) {
			t.Errorf("want %q as the reason: %+v", why, s.RollBack)
		}
		if b := p.Slot("b"); b.State != runnerapi.SlotBad && b.State != runnerapi.SlotBroken || b.Current || !strings.Contains(b.Reason, why) {
			t.Errorf("want %q as the reason: %+v", why, b)
		}
	}
	staysDown := func(why string) {
		t.Helper()
		p.Eventually("down", func() bool { return p.Status().Phase == runnerapi.Failed })
		if s := p.Status(); !strings.Contains(s.Reason, why) || !strings.Contains(s.Reason, "install it again with `sov push sql`") {
			t.Errorf("want %q as the reason: %s", why, s.Reason)
		}
	}
	one, two := version(1), version(2)
	push(one, "--start")
	push(two, "--restart")
	runs("version 2", "b")

	// A panic that the guest reports does not cause a rollback to an older version.
	was := p.Status().Crosvm
	p.End(lightguest.Panic)
	p.Eventually("started again", func() bool {
		s := p.Status()
		return s.Phase == runnerapi.Ready && s.Failures == 1 && s.Crosvm != 0 && s.Crosvm != was
	})
	if s := p.Status(); s.Slot != "b" || s.RollBack != nil {
		t.Errorf("a guest panicked, and nothing is damaged: %+v", s)
	}

	flip("b", "rootfs.img", 2*4096+100)
	p.End(lightguest.Panic)
	wentBack("rootfs.img is damaged: block 2")
	push(two, "--restart")
	runs("repaired", "b")

	flip("b", "kernel", 1)
	p.Runner("restart", "sql")
	wentBack("kernel has SHA-256")
	push(two, "--restart")
	runs("repaired", "b")

	flip("b", "vm.json", 30)
	p.Runner("restart", "sql")
	wentBack("vm.json is not the one that manifest.json lists")
	push(two, "--restart")
	runs("repaired", "b")

	// The other version is damaged as well, which the rollback detects when it starts it.
	flip("a", "kernel", 1)
	flip("b", "rootfs.img", 4096)
	p.End(lightguest.Panic)
	staysDown("kernel has SHA-256")
	if o := p.Runner("up", "sql"); o.Status == 0 {
		t.Errorf("a damaged version was started: %v", o)
	}
	push(two, "--start")
	runs("repaired", "b")

	// The phone does not roll back to a version that was found to be damaged.
	flip("b", "vm.json", 30)
	p.Runner("restart", "sql")
	staysDown("vm.json is not the one that manifest.json lists")
	if s := p.Status(); s.Slot != "b" {
		t.Errorf("slot %s is current", s.Slot)
	}
	push(two, "--start")
	runs("repaired", "a")
	p.Do("down", "sql")
}
