package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/artifacttest"
	"github.com/sovereign-sql/sov/internal/runnerapi"
	"github.com/sovereign-sql/sov/internal/vmspec"
)

// slot is what one of the machine's slots holds.
func (h *handset) slot(name string) runnerapi.Slot {
	h.t.Helper()
	for _, s := range h.status().Slots {
		if s.Slot == name {
			return s
		}
	}
	h.t.Fatalf("there is no slot %s", name)
	return runnerapi.Slot{}
}

// Versions that do not work: each is gone back from by itself, the data is what it was, and the reason is kept. One that
// works is kept, and gone back from when somebody wants it.
func TestRollBack(t *testing.T) {
	t.Parallel()
	h := newHandset(t, androidtest.Options{}, "")
	h.do("up", "sql")
	if s := h.slot("a"); s.State != runnerapi.SlotGood || !s.Current {
		t.Errorf("once it was ready: %+v", s)
	}
	h.ask("create table journey (stop text); insert into journey values ('version 1')")
	replace := func(old, new string) func(*vmspec.Spec) {
		return func(s *vmspec.Spec) {
			for i, p := range s.Parameters {
				s.Parameters[i] = strings.Replace(p, old, new, 1)
			}
			s.Ready.TimeoutSeconds = 120
		}
	}
	good := artifact(t, "arm64")
	broken, result := brokenSetting()
	if result.status != 0 {
		t.Fatal(result)
	}
	for _, c := range []struct {
		name   string
		from   string
		alter  func(*vmspec.Spec)
		reason string
	}{
		{"a kernel that panics", good, replace("root=/dev/vda", "root=/dev/nowhere"), "Unable to mount root"},
		{"an init that exits", good, replace("init=/sbin/sov-init", "init=/bin/false"), "Attempted to kill init"},
		{"a PostgreSQL that never gets ready", broken, func(s *vmspec.Spec) { s.Ready.TimeoutSeconds = 60 }, "postgres ends again and again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.install(artifacttest.Change(t, c.from, "2", c.alter))
			if s := h.slot("b"); s.State != runnerapi.SlotNew || !s.Current || h.status().Slot != "a" {
				t.Errorf("before the restart: %+v, slot %s runs", s, h.status().Slot)
			}
			o := h.runner("restart", "sql")
			t.Log(o.stderr)
			if o.status != 1 || !strings.Contains(o.stderr, "version 2 in slot b does not work") || !strings.Contains(o.stderr, c.reason) {
				t.Errorf("restart: %v\n%s", o, h.logs())
			}
			s := h.status()
			if s.Phase != runnerapi.Ready || s.Slot != "a" || s.Trial || s.RollBack == nil || !strings.Contains(s.RollBack.Reason, c.reason) {
				t.Errorf("afterwards: %+v", s)
			}
			if b := h.slot("b"); b.State != runnerapi.SlotBad || b.Current || !strings.Contains(b.Reason, c.reason) {
				t.Errorf("slot b: %+v", b)
			}
			if got := h.ask("select stop from journey"); len(got) != 1 || got[0] != "version 1" {
				t.Errorf("the data: %q", got)
			}
		})
	}
	if o := h.runner("rollback", "sql"); o.status != 1 || !strings.Contains(o.stderr, "did not become ready") {
		t.Errorf("back to a bad version: %v", o)
	}
	h.install(artifacttest.Change(t, good, "3", func(*vmspec.Spec) {}))
	h.do("restart", "sql")
	if s := h.slot("b"); s.State != runnerapi.SlotGood || s.Version != "3" || h.status().Slot != "b" {
		t.Errorf("a version that works: %+v", s)
	}
	h.do("rollback", "sql")
	if s := h.status(); s.Slot != "a" || s.Phase != runnerapi.Ready || s.Version == "3" {
		t.Errorf("back by hand: %+v", s)
	}
	h.do("down", "sql")
}

// install makes an artifact's folder, on this computer, the phone's next version.
func (h *handset) install(dir string) {
	h.t.Helper()
	const at = "/data/local/sql"
	if err := errors.Join(os.RemoveAll(h.File(at)), os.CopyFS(h.File(at), os.DirFS(dir))); err != nil {
		h.t.Fatal(err)
	}
	h.do("install", "sql", at)
}
