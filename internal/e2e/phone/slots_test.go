package phone

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// Versions that do not work: each is gone back from by itself, the data is what it was, and the
// reason is kept. One that works is kept, and rolled back at the user's request. The first version
// has a light guest, which starts quickly.
func TestRollBack(t *testing.T) {
	t.Parallel()
	good := sovtest.Artifact(t, "arm64")
	h := phonetest.NewWith(t, artifacttest.WithKernel(t, good, []byte("{}")), androidtest.Options{}, "")
	h.Do("up", "sql")
	if s := h.Slot("a"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("once it was ready: %+v", s)
	}
	// failing installs a version, which fails for a reason, and wants the one before to run again.
	failing := func(before, slot, dir, reason string) {
		t.Helper()
		h.InstallNext(dir)
		if s := h.Slot(slot); s.State != runnerapi.SlotNew || !s.Current || h.Status().Slot != before {
			t.Errorf("before the restart: %+v, slot %s runs", s, h.Status().Slot)
		}
		o := h.Runner("restart", "sql")
		t.Log(o.Stderr)
		if o.Status != 1 || !strings.Contains(o.Stderr, "version 2 in slot "+slot+" does not work") || !strings.Contains(o.Stderr, reason) {
			t.Errorf("restart: %v\n%s", o, h.Logs())
		}
		s := h.Status()
		if s.Phase != runnerapi.Ready || s.Slot != before || s.Trial || s.RollBack == nil || !strings.Contains(s.RollBack.Reason, reason) {
			t.Errorf("afterwards: %+v", s)
		}
		if b := h.Slot(slot); b.State != runnerapi.SlotBad || b.Current || !strings.Contains(b.Reason, reason) {
			t.Errorf("slot %s: %+v", slot, b)
		}
	}
	replace := func(old, new string) func(*vmspec.Spec) {
		return func(s *vmspec.Spec) {
			for i, p := range s.Parameters {
				s.Parameters[i] = strings.Replace(p, old, new, 1)
			}
			s.Ready.TimeoutSeconds = 120
		}
	}
	for _, c := range []struct {
		name   string
		alter  func(*vmspec.Spec)
		reason string
	}{
		{"a kernel that panics", replace("root=/dev/dm-0", "root=/dev/nowhere"), "Unable to mount root"},
		{"an init that exits", replace("init=/sbin/sov-init", "init=/bin/false"), "Attempted to kill init"},
		// Nothing is waited for where a service has failed for good.
		{"a firewall that cannot be loaded", func(s *vmspec.Spec) {
			s.Parameters = append(s.Parameters, guesttest.NoFirewall)
			s.Ready.TimeoutSeconds = 3600
		}, "the firewall is not loaded"},
	} {
		t.Run(c.name, func(t *testing.T) { failing("a", "b", artifacttest.Change(t, good, "2", c.alter), c.reason) })
	}
	if o := h.Runner("rollback", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "did not become ready") {
		t.Errorf("back to a bad version: %v", o)
	}

	h.InstallNext(artifacttest.Change(t, good, "3", func(*vmspec.Spec) {}))
	h.Do("restart", "sql")
	if s := h.Slot("b"); s.State != runnerapi.SlotGood || s.Version != "3" || h.Status().Slot != "b" {
		t.Errorf("a version that works: %+v", s)
	}
	h.Ask("create table journey (stop text); insert into journey values ('version 3')")
	h.Do("rollback", "sql")
	if s := h.Status(); s.Slot != "a" || s.Phase != runnerapi.Ready || s.Version == "3" {
		t.Errorf("back by hand: %+v", s)
	}
	h.Do("rollback", "sql")
	if s := h.Status(); s.Slot != "b" || s.Phase != runnerapi.Ready || s.Version != "3" {
		t.Errorf("forward again by hand: %+v", s)
	}
	t.Run("a PostgreSQL that never gets ready", func(t *testing.T) {
		broken := sovtest.Variant(t, "arm64", "broken-setting", sovtest.WithSetting("shared_buffers: 500GB"))
		failing("b", "a", artifacttest.Change(t, broken, "2", func(s *vmspec.Spec) { s.Ready.TimeoutSeconds = 180 }), "postgres ends again and again")
		if got := h.Ask("select stop from journey"); len(got) != 1 || got[0] != "version 3" {
			t.Errorf("the data: %q", got)
		}
	})
	h.Do("down", "sql")
}
