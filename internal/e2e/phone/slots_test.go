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

// TestRollBack installs versions that do not work. Each is rolled back automatically, with the data
// unchanged and the reason recorded. A version that works is kept, and rolled back on request.
func TestRollBack(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, "")
	h.Do("up", "sql")
	if s := h.Slot("a"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("once it was ready: %+v", s)
	}
	h.Ask("create table journey (stop text); insert into journey values ('version 1')")
	replace := func(old, new string) func(*vmspec.Spec) {
		return func(s *vmspec.Spec) {
			for i, p := range s.Parameters {
				s.Parameters[i] = strings.Replace(p, old, new, 1)
			}
			s.Ready.TimeoutSeconds = 120
		}
	}
	good := sovtest.Artifact(t, "arm64")
	broken := sovtest.Variant(t, "arm64", "broken-setting", sovtest.WithSetting("shared_buffers: 500GB"))
	for _, c := range []struct {
		name   string
		from   string
		alter  func(*vmspec.Spec)
		reason string
	}{
		{"a kernel that panics", good, replace("root=/dev/dm-0", "root=/dev/nowhere"), "Unable to mount root"},
		{"an init that exits", good, replace("init=/sbin/sov-init", "init=/bin/false"), "Attempted to kill init"},
		// The start does not wait for the timeout after a service has failed permanently.
		{"a firewall that cannot be loaded", good, func(s *vmspec.Spec) {
			s.Parameters = append(s.Parameters, guesttest.NoFirewall)
			s.Ready.TimeoutSeconds = 3600
		}, "the firewall is not loaded"},
		{"a PostgreSQL that never gets ready", broken, func(s *vmspec.Spec) { s.Ready.TimeoutSeconds = 180 }, "postgres ends again and again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.InstallNext(artifacttest.Change(t, c.from, "2", c.alter))
			if s := h.Slot("b"); s.State != runnerapi.SlotNew || !s.Current || h.Status().Slot != "a" {
				t.Errorf("before the restart: %+v, slot %s runs", s, h.Status().Slot)
			}
			o := h.Runner("restart", "sql")
			t.Log(o.Stderr)
			if o.Status != 1 || !strings.Contains(o.Stderr, "version 2 in slot b does not work") || !strings.Contains(o.Stderr, c.reason) {
				t.Errorf("restart: %v\n%s", o, h.Logs())
			}
			s := h.Status()
			if s.Phase != runnerapi.Ready || s.Slot != "a" || s.Trial || s.RollBack == nil || !strings.Contains(s.RollBack.Reason, c.reason) {
				t.Errorf("afterwards: %+v", s)
			}
			if b := h.Slot("b"); b.State != runnerapi.SlotBad || b.Current || !strings.Contains(b.Reason, c.reason) {
				t.Errorf("slot b: %+v", b)
			}
			if got := h.Ask("select stop from journey"); len(got) != 1 || got[0] != "version 1" {
				t.Errorf("the data: %q", got)
			}
		})
	}
	if o := h.Runner("rollback", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "did not become ready") {
		t.Errorf("back to a bad version: %v", o)
	}
	h.InstallNext(artifacttest.Change(t, good, "3", func(*vmspec.Spec) {}))
	h.Do("restart", "sql")
	if s := h.Slot("b"); s.State != runnerapi.SlotGood || s.Version != "3" || h.Status().Slot != "b" {
		t.Errorf("a version that works: %+v", s)
	}
	h.Do("rollback", "sql")
	if s := h.Status(); s.Slot != "a" || s.Phase != runnerapi.Ready || s.Version == "3" {
		t.Errorf("back by hand: %+v", s)
	}
	h.Do("down", "sql")
}
