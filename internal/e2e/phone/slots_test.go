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

// TestRollBack installs a version whose PostgreSQL never gets ready. It is rolled back
// automatically, with the data unchanged and the reason recorded. A version that works is kept, and
// rolled back on request.
func TestRollBack(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, "")
	h.Do("up", "sql")
	if s := h.Slot("a"); s.State != runnerapi.SlotGood || !s.Current {
		t.Fatalf("slot a: %+v", s)
	}
	h.Ask("create table journey (stop text); insert into journey values ('version 1')")
	broken := sovtest.Variant(t, "arm64", "broken-setting", sovtest.WithSetting("shared_buffers: 500GB"))
	wantRollBack(t, h, artifacttest.Change(t, broken, "2", func(s *vmspec.Spec) { s.Ready.TimeoutSeconds = 300 }), "postgres ends again and again")
	if got := h.Ask("select stop from journey"); len(got) != 1 || got[0] != "version 1" {
		t.Errorf("the row is %q", got)
	}
	if o := h.Runner("rollback", "sql"); o.Status != 1 || !strings.Contains(o.Stderr, "did not become ready") {
		t.Errorf("rollback to the version that does not work: %v", o)
	}
	h.InstallNext(artifacttest.Change(t, sovtest.Artifact(t, "arm64"), "3", func(*vmspec.Spec) {}))
	h.Do("restart", "sql")
	if s := h.Slot("b"); s.State != runnerapi.SlotGood || s.Version != "3" || h.Status().Slot != "b" {
		t.Errorf("slot b: %+v", s)
	}
	h.Do("rollback", "sql")
	if s := h.Status(); s.Slot != "a" || s.Phase != runnerapi.Ready || s.Version == "3" {
		t.Errorf("after the rollback: %+v", s)
	}
	h.Do("down", "sql")
}

// TestRollBackEarly installs versions that end, or fail for good, before their services run.
func TestRollBackEarly(t *testing.T) {
	t.Parallel()
	idle := guesttest.BuildWriterOn(t, nil, "while i=$((i + 1)); do", "while sleep 1; do")
	h := phonetest.NewSmall(t, idle)
	h.Do("up", "small")
	replace := func(old, new string) func(*vmspec.Spec) {
		return func(s *vmspec.Spec) {
			for i, p := range s.Parameters {
				s.Parameters[i] = strings.Replace(p, old, new, 1)
			}
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
		t.Run(c.name, func(t *testing.T) {
			wantRollBack(t, h, artifacttest.Change(t, idle, "2", c.alter), c.reason)
		})
	}
	h.Do("down", "small")
}

// wantRollBack installs an artifact whose version is 2 and starts it. The machine must run again as
// before, from slot a, and give the reason.
func wantRollBack(t *testing.T, h *phonetest.Handset, artifact, reason string) {
	t.Helper()
	h.InstallNext(artifact)
	if s := h.Slot("b"); s.State != runnerapi.SlotNew || !s.Current || h.Status().Slot != "a" {
		t.Errorf("slot b: %+v, slot %s runs", s, h.Status().Slot)
	}
	o := h.Runner("restart", h.VM.Name)
	t.Log(o.Stderr)
	if o.Status != 1 || !strings.Contains(o.Stderr, "version 2 in slot b does not work") || !strings.Contains(o.Stderr, reason) {
		t.Errorf("restart: %v\n%s", o, h.Logs())
	}
	s := h.Status()
	if s.Phase != runnerapi.Ready || s.Slot != "a" || s.Trial || s.RollBack == nil || !strings.Contains(s.RollBack.Reason, reason) {
		t.Errorf("status: %+v", s)
	}
	if b := h.Slot("b"); b.State != runnerapi.SlotBad || b.Current || !strings.Contains(b.Reason, reason) {
		t.Errorf("slot b: %+v", b)
	}
}
